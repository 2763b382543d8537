// Package unsafebytes finds conversions that share bytes between a string and a
// slice.
package unsafebytes

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"

	"sluice.dev/tools/filter-lint/apiuse"
)

// Analyzer reports unsafe.String, unsafe.StringData and the older ways of the
// same, in packages that are written for the SDK: bodies are changed in place
// and strings may be the proxy's, so both ways end in values that change, or
// in a fault.
var Analyzer = &analysis.Analyzer{
	Name:     "unsafebytes",
	Doc:      "find conversions between strings and slices that do not copy, in filters for Envoy's Golang SDK",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

func run(pass *analysis.Pass) (any, error) {
	if !apiuse.Imported(pass.Pkg) {
		return nil, nil
	}
	all := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	all.Preorder([]ast.Node{(*ast.CallExpr)(nil), (*ast.SelectorExpr)(nil)}, func(node ast.Node) {
		switch node := node.(type) {
		case *ast.SelectorExpr:
			object := pass.TypesInfo.Uses[node.Sel]
			if object == nil || object.Pkg() == nil || object.Pkg().Path() != "reflect" {
				return
			}
			if name := object.Name(); name == "StringHeader" || name == "SliceHeader" {
				pass.Reportf(node.Pos(), "reflect.%s shares bytes between a string and a slice: convert by string(b) or []byte(s), which copy", name)
			}
		case *ast.CallExpr:
			checkCall(pass, node)
		}
	})
	return nil, nil
}

func checkCall(pass *analysis.Pass, call *ast.CallExpr) {
	if selector, isSelector := call.Fun.(*ast.SelectorExpr); isSelector {
		builtin, isBuiltin := pass.TypesInfo.Uses[selector.Sel].(*types.Builtin)
		if isBuiltin && (builtin.Name() == "String" || builtin.Name() == "StringData") {
			pass.Reportf(call.Pos(), "unsafe.%s shares bytes between a string and a slice: a body's bytes change and a header's end with the request; convert by string(b) or []byte(s), which copy", builtin.Name())
		}
		return
	}
	// (*string)(unsafe.Pointer(&b)), (*[]byte)(unsafe.Pointer(&s))
	to, isPointer := pass.TypesInfo.TypeOf(call).(*types.Pointer)
	if !pass.TypesInfo.Types[call.Fun].IsType() || !isPointer || len(call.Args) != 1 {
		return
	}
	inner, isCall := ast.Unparen(call.Args[0]).(*ast.CallExpr)
	if !isCall || len(inner.Args) != 1 || pass.TypesInfo.TypeOf(inner) != types.Typ[types.UnsafePointer] {
		return
	}
	from, isPointer := pass.TypesInfo.TypeOf(inner.Args[0]).(*types.Pointer)
	if isPointer && ((isString(to.Elem()) && isBytes(from.Elem())) || (isBytes(to.Elem()) && isString(from.Elem()))) {
		pass.Reportf(call.Pos(), "this conversion shares bytes between a string and a slice: convert by string(b) or []byte(s), which copy")
	}
}

func isString(t types.Type) bool {
	basic, isBasic := t.Underlying().(*types.Basic)
	return isBasic && basic.Kind() == types.String
}

func isBytes(t types.Type) bool {
	slice, isSlice := t.Underlying().(*types.Slice)
	if !isSlice {
		return false
	}
	basic, isBasic := slice.Elem().Underlying().(*types.Basic)
	return isBasic && basic.Kind() == types.Uint8
}
