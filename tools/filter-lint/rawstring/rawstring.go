// Package rawstring finds strings of GetRaw that are kept.
package rawstring

import (
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/inspect"
	"golang.org/x/tools/go/ast/inspector"
	"golang.org/x/tools/go/types/typeutil"

	"sluice.dev/tools/filter-lint/apiuse"
)

// Analyzer reports a string of GetRaw, or a part of it, that goes into a field,
// a package's variable, a map, a channel or a goroutine. Its bytes are the
// proxy's and are gone, or something else, after the request; strings.Clone
// makes them Go's.
var Analyzer = &analysis.Analyzer{
	Name:     "rawstring",
	Doc:      "find strings of GetRaw of Envoy's Golang SDK that outlive the callback",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

// Functions of package strings whose result has the bytes of their argument.
var sharing = map[string]bool{
	"Cut": true, "CutPrefix": true, "CutSuffix": true, "Fields": true, "FieldsFunc": true, "Replace": true,
	"ReplaceAll": true, "Split": true, "SplitAfter": true, "SplitAfterN": true, "SplitN": true, "ToLower": true,
	"ToUpper": true, "Trim": true, "TrimFunc": true, "TrimLeft": true, "TrimLeftFunc": true, "TrimPrefix": true,
	"TrimRight": true, "TrimRightFunc": true, "TrimSpace": true, "TrimSuffix": true, "ToValidUTF8": true,
}

func run(pass *analysis.Pass) (any, error) {
	all := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	all.Preorder([]ast.Node{(*ast.FuncDecl)(nil)}, func(node ast.Node) {
		if body := node.(*ast.FuncDecl).Body; body != nil {
			f := &function{pass: pass, raw: make(map[types.Object]bool)}
			for f.learn(body) {
			}
			f.report(body)
		}
	})
	return nil, nil
}

type function struct {
	pass *analysis.Pass
	raw  map[types.Object]bool // local variables that have such a string
}

// isRaw tells whether an expression has bytes of the proxy's.
func (f *function) isRaw(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.Ident:
		return f.raw[f.pass.TypesInfo.ObjectOf(e)]
	case *ast.SliceExpr:
		return f.isRaw(e.X)
	case *ast.IndexExpr: // of strings.Split's result; of a string it is a byte
		return f.isRaw(e.X) && !isByte(f.pass.TypesInfo.TypeOf(e))
	case *ast.CompositeLit:
		for _, element := range e.Elts {
			if pair, isPair := element.(*ast.KeyValueExpr); isPair {
				element = pair.Value
			}
			if f.isRaw(element) {
				return true
			}
		}
	case *ast.UnaryExpr:
		return e.Op == token.AND && f.isRaw(e.X)
	case *ast.CallExpr:
		if _, name := apiuse.Method(f.pass.TypesInfo, e); name == "GetRaw" {
			return true
		}
		if len(e.Args) == 0 {
			return false
		}
		if kind := f.pass.TypesInfo.Types[e.Fun]; kind.IsType() { // string(s), my.Type(s); not []byte(s)
			basic, isBasic := kind.Type.Underlying().(*types.Basic)
			return isBasic && basic.Kind() == types.String && f.isRaw(e.Args[0])
		}
		if name, isName := e.Fun.(*ast.Ident); isName && name.Name == "append" {
			for _, argument := range e.Args {
				if f.isRaw(argument) {
					return true
				}
			}
		}
		callee := typeutil.Callee(f.pass.TypesInfo, e)
		return callee != nil && callee.Pkg() != nil && callee.Pkg().Path() == "strings" && sharing[callee.Name()] && f.isRaw(e.Args[0])
	}
	return false
}

func isByte(t types.Type) bool {
	basic, isBasic := t.Underlying().(*types.Basic)
	return isBasic && basic.Kind() == types.Uint8
}

// learn notes which variables get such a string; whether there were new ones.
func (f *function) learn(body *ast.BlockStmt) (more bool) {
	note := func(left ast.Expr) {
		if name, isName := left.(*ast.Ident); isName && name.Name != "_" {
			object := f.pass.TypesInfo.ObjectOf(name)
			if object != nil && carries(object.Type()) && !f.raw[object] && object.Parent() != f.pass.Pkg.Scope() {
				f.raw[object], more = true, true
			}
		}
	}
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for i, right := range node.Rhs {
				if !f.isRaw(right) {
					continue
				}
				if len(node.Lhs) == len(node.Rhs) {
					note(node.Lhs[i])
				} else { // a, b, found := strings.Cut(raw, ...)
					for _, left := range node.Lhs {
						note(left)
					}
				}
			}
		case *ast.ValueSpec:
			for i, right := range node.Values {
				if f.isRaw(right) && i < len(node.Names) {
					note(node.Names[i])
				}
			}
		case *ast.RangeStmt:
			if node.Value != nil && f.isRaw(node.X) {
				note(node.Value)
			}
		}
		return true
	})
	return more
}

// carries tells whether a value of that type can have a string's bytes.
func carries(t types.Type) bool {
	basic, isBasic := t.Underlying().(*types.Basic)
	return !isBasic || basic.Kind() == types.String
}

const remedy = "its bytes are the proxy's and gone after the request; take strings.Clone of it, or Get instead of GetRaw"

func (f *function) report(body *ast.BlockStmt) {
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			for i, left := range node.Lhs {
				right := node.Rhs[min(i, len(node.Rhs)-1)]
				if f.keeps(left) && f.isRaw(right) && carries(f.pass.TypesInfo.TypeOf(left)) {
					f.pass.Reportf(right.Pos(), "a string of GetRaw is kept: %s", remedy)
				}
			}
		case *ast.SendStmt:
			if f.isRaw(node.Value) {
				f.pass.Reportf(node.Value.Pos(), "a string of GetRaw is sent away: %s", remedy)
			}
		case *ast.GoStmt:
			f.reportGoroutine(node)
		}
		return true
	})
}

// keeps tells whether what is assigned to outlives the function.
func (f *function) keeps(left ast.Expr) bool {
	switch left := ast.Unparen(left).(type) {
	case *ast.Ident:
		object := f.pass.TypesInfo.ObjectOf(left)
		return object != nil && object.Parent() == f.pass.Pkg.Scope()
	case *ast.SelectorExpr:
		if base, isName := ast.Unparen(left.X).(*ast.Ident); isName { // a local struct's field is local
			object := f.pass.TypesInfo.ObjectOf(base)
			if variable, isVar := object.(*types.Var); isVar && object.Parent() != f.pass.Pkg.Scope() {
				_, isPointer := variable.Type().Underlying().(*types.Pointer)
				return isPointer
			}
		}
		return true
	case *ast.IndexExpr:
		return f.keeps(left.X)
	case *ast.StarExpr:
		return true
	}
	return false
}

func (f *function) reportGoroutine(statement *ast.GoStmt) {
	for _, argument := range statement.Call.Args {
		if f.isRaw(argument) {
			f.pass.Reportf(argument.Pos(), "a string of GetRaw goes to a goroutine: %s", remedy)
		}
	}
	function, isLiteral := statement.Call.Fun.(*ast.FuncLit)
	if !isLiteral {
		return
	}
	told := make(map[types.Object]bool)
	ast.Inspect(function.Body, func(node ast.Node) bool {
		name, isName := node.(*ast.Ident)
		if !isName {
			return true
		}
		object := f.pass.TypesInfo.Uses[name]
		outside := object != nil && (object.Pos() < function.Pos() || object.Pos() > function.End())
		if outside && f.raw[object] && !told[object] {
			told[object] = true
			f.pass.Reportf(name.Pos(), "a string of GetRaw goes to a goroutine: %s", remedy)
		}
		return true
	})
}
