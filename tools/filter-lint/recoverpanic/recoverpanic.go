// Package recoverpanic finds goroutines that use a request without being ready
// for its end.
package recoverpanic

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

// Analyzer wants `defer callbacks.RecoverPanic()` in a goroutine before it, or
// a function of the package that it calls, uses what is a request's.
var Analyzer = &analysis.Analyzer{
	Name:     "recoverpanic",
	Doc:      "find goroutines that use a request of Envoy's Golang SDK without RecoverPanic",
	Requires: []*analysis.Analyzer{inspect.Analyzer},
	Run:      run,
}

func run(pass *analysis.Pass) (any, error) {
	c := &checker{pass: pass, bodies: make(map[types.Object]*ast.BlockStmt)}
	all := pass.ResultOf[inspect.Analyzer].(*inspector.Inspector)
	all.Preorder([]ast.Node{(*ast.FuncDecl)(nil), (*ast.AssignStmt)(nil)}, func(node ast.Node) {
		switch node := node.(type) {
		case *ast.FuncDecl:
			c.bodies[pass.TypesInfo.Defs[node.Name]] = node.Body
		case *ast.AssignStmt: // work := func() { ... }
			for i, left := range node.Lhs {
				name, isName := left.(*ast.Ident)
				if !isName || len(node.Lhs) != len(node.Rhs) {
					continue
				}
				if function, isFunc := node.Rhs[i].(*ast.FuncLit); isFunc {
					c.bodies[pass.TypesInfo.ObjectOf(name)] = function.Body
				}
			}
		}
	})
	all.Preorder([]ast.Node{(*ast.GoStmt)(nil)}, func(node ast.Node) {
		c.check(node.(*ast.GoStmt))
	})
	return nil, nil
}

type checker struct {
	pass   *analysis.Pass
	bodies map[types.Object]*ast.BlockStmt // of the package's functions
}

func (c *checker) check(statement *ast.GoStmt) {
	call := statement.Call
	// go callbacks.Continue(...) has no room for a defer.
	if name := c.use(call); name != "" {
		c.pass.Reportf(statement.Pos(), "%s panics in this goroutine when the request is over, which ends the process; call it from a function that begins with defer callbacks.RecoverPanic()", name)
		return
	}
	body := c.body(call)
	if body == nil {
		return // of another package: unknown
	}
	ready := recovers(body)
	pos, name := c.firstUse(body, make(map[*ast.BlockStmt]bool))
	if name == "" || (ready.IsValid() && ready < pos) {
		return
	}
	if ready.IsValid() {
		c.pass.Reportf(ready, "this comes too late: %s is used before it", name)
		return
	}
	c.pass.Reportf(statement.Pos(), "this goroutine uses a request (%s) and has no defer callbacks.RecoverPanic(): when the request is over by then, the SDK's panic ends the process", name)
}

// body of what a call calls; nil: not known.
func (c *checker) body(call *ast.CallExpr) *ast.BlockStmt {
	if function, isLiteral := ast.Unparen(call.Fun).(*ast.FuncLit); isLiteral {
		return function.Body
	}
	if name, isName := ast.Unparen(call.Fun).(*ast.Ident); isName {
		return c.bodies[c.pass.TypesInfo.ObjectOf(name)]
	}
	if callee := typeutil.Callee(c.pass.TypesInfo, call); callee != nil {
		return c.bodies[callee]
	}
	return nil
}

// use returns the method of a request's that a call is; "" when it is none.
func (c *checker) use(call *ast.CallExpr) string {
	receiver, name := apiuse.Method(c.pass.TypesInfo, call)
	switch receiver {
	case "", "ConfigCallbacks", "ConfigCallbackHandler", "CounterMetric", "GaugeMetric":
		return "" // not a request's
	}
	switch name {
	case "RecoverPanic", "DecoderFilterCallbacks", "EncoderFilterCallbacks", "StreamInfo", "DynamicMetadata", "FilterState", "Log", "LogLevel":
		return "" // they do not ask the proxy about the request
	}
	return receiver + "." + name
}

// firstUse finds the first call on a request in a body or in what it calls,
// where in this body that is. What a goroutine starts as another one is
// looked at by itself.
func (c *checker) firstUse(body *ast.BlockStmt, seen map[*ast.BlockStmt]bool) (pos token.Pos, name string) {
	if seen[body] {
		return token.NoPos, ""
	}
	seen[body] = true
	ast.Inspect(body, func(node ast.Node) bool {
		if name != "" {
			return false
		}
		switch node := node.(type) {
		case *ast.GoStmt:
			return false
		case *ast.CallExpr:
			if name = c.use(node); name != "" {
				pos = node.Pos()
				return false
			}
			if inner := c.body(node); inner != nil && !recovers(inner).IsValid() {
				if _, name = c.firstUse(inner, seen); name != "" {
					pos = node.Pos()
				}
			}
		}
		return name == ""
	})
	return pos, name
}

// recovers finds `defer x.RecoverPanic()` among a body's own statements: itself
// deferred, since recover does nothing deeper.
func recovers(body *ast.BlockStmt) token.Pos {
	for _, statement := range body.List {
		deferred, isDefer := statement.(*ast.DeferStmt)
		if !isDefer {
			continue
		}
		if method, isMethod := deferred.Call.Fun.(*ast.SelectorExpr); isMethod && method.Sel.Name == "RecoverPanic" {
			return deferred.Pos()
		}
		// defer func() { if p := recover(); p != nil { ... } }() is as good.
		if function, isLiteral := deferred.Call.Fun.(*ast.FuncLit); isLiteral && callsRecover(function.Body) {
			return deferred.Pos()
		}
	}
	return token.NoPos
}

func callsRecover(body *ast.BlockStmt) bool {
	found := false
	ast.Inspect(body, func(node ast.Node) bool {
		if _, isLiteral := node.(*ast.FuncLit); isLiteral {
			return false
		}
		if call, isCall := node.(*ast.CallExpr); isCall {
			name, isName := call.Fun.(*ast.Ident)
			found = found || (isName && name.Name == "recover")
		}
		return !found
	})
	return found
}
