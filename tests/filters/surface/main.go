// Command surface lists what the SDK offers to plugins and asks of them, by the types of its packages: for each
// module file that it is given, the methods of all exported interfaces and all exported functions, as JSON.
//
//	go run ./surface go.mod go.v132.mod go.v131.mod
//
// An interface that is part of another one of its package counts only there. A type of functions has one method
// without a name.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"sort"
	"strings"
)

const sdk = "github.com/envoyproxy/envoy/contrib/golang/"

// Where plugins look. The folders' names are those of the tables.
var packages = []string{
	"common/go/api",
	"filters/http/source/go/pkg/http",
	"filters/network/source/go/pkg/network",
	"router/cluster_specifier/source/go/pkg/api",
	"router/cluster_specifier/source/go/pkg/cluster_specifier",
}

// surface is what a version has: "PACKAGE.Interface.Method" or "PACKAGE.Function", sorted.
type surface []string

func main() {
	found := map[string]surface{}
	for _, module := range os.Args[1:] {
		names, err := look(module)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", module, err)
			os.Exit(1)
		}
		found[module] = names
	}
	_ = json.NewEncoder(os.Stdout).Encode(found)
}

func look(module string) (surface, error) {
	exports, err := exportData(module)
	if err != nil {
		return nil, err
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	var names surface
	for _, name := range packages {
		p, err := from.Import(sdk + name)
		if err != nil {
			return nil, err
		}
		names = append(names, members(name, p.Scope())...)
	}
	sort.Strings(names)
	return names, nil
}

// exportData is where the compiler left what it knows of each package, by import path.
func exportData(module string) (map[string]string, error) {
	arguments := []string{"list", "-modfile=" + module, "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}"}
	for _, name := range packages {
		arguments = append(arguments, sdk+name)
	}
	list := exec.Command("go", arguments...)
	if named := os.Getenv("SLUICE_GO"); named != "" {
		list = exec.Command(named, arguments...)
	}
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		path, file, _ := strings.Cut(lines.Text(), " ")
		exports[path] = file
	}
	return exports, nil
}

func members(prefix string, scope *types.Scope) []string {
	var names []string
	parts := embedded(scope)
	for _, name := range scope.Names() {
		switch object := scope.Lookup(name).(type) {
		case *types.Func:
			if object.Exported() {
				names = append(names, prefix+"."+name)
			}
		case *types.TypeName:
			if !object.Exported() || parts[object.Type()] {
				continue
			}
			switch shape := object.Type().Underlying().(type) {
			case *types.Interface:
				for i := 0; i < shape.NumMethods(); i++ {
					names = append(names, prefix+"."+name+"."+shape.Method(i).Name())
				}
			case *types.Signature:
				names = append(names, prefix+"."+name+".")
			}
		}
	}
	return names
}

// embedded are the interfaces that others of the package are made of.
func embedded(scope *types.Scope) map[types.Type]bool {
	parts := map[types.Type]bool{}
	for _, name := range scope.Names() {
		object, ok := scope.Lookup(name).(*types.TypeName)
		if !ok {
			continue
		}
		if whole, ok := object.Type().Underlying().(*types.Interface); ok {
			for i := 0; i < whole.NumEmbeddeds(); i++ {
				parts[whole.EmbeddedType(i)] = true
			}
		}
	}
	return parts
}
