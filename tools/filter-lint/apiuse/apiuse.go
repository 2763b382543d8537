// Package apiuse knows which calls are the SDK's.
package apiuse

import (
	"go/ast"
	"go/types"
	"strings"

	"golang.org/x/tools/go/types/typeutil"
)

const apiPath = "contrib/golang/common/go/api"

// Method returns the name of the SDK's method that a call is of and of the
// interface that has it; "" when it is none. api.LogInfo and its like are functions, and know no
// request.
func Method(info *types.Info, call *ast.CallExpr) (receiver, name string) {
	method, isFunc := typeutil.Callee(info, call).(*types.Func)
	if !isFunc || !isAPI(method.Pkg()) {
		return "", ""
	}
	recv := method.Type().(*types.Signature).Recv()
	if recv == nil {
		return "", ""
	}
	// An embedded interface's methods say where they are embedded from; what the
	// expression is of tells more.
	if selector, ok := ast.Unparen(call.Fun).(*ast.SelectorExpr); ok {
		if named, ok := info.TypeOf(selector.X).(*types.Named); ok && isAPI(named.Obj().Pkg()) {
			return named.Obj().Name(), method.Name()
		}
	}
	if named, ok := recv.Type().(*types.Named); ok {
		return named.Obj().Name(), method.Name()
	}
	return "", method.Name()
}

// Imported tells whether a package is written for the SDK at all.
func Imported(pkg *types.Package) bool {
	for _, imported := range pkg.Imports() {
		if isAPI(imported) {
			return true
		}
	}
	return false
}

func isAPI(pkg *types.Package) bool {
	return pkg != nil && strings.HasSuffix(pkg.Path(), apiPath)
}
