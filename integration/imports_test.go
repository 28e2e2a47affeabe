package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "snapfs"

// allowed says what a package of the module may import from it, the first pattern that matches deciding. A pattern
// ends in /... for everything below.
var allowed = []struct {
	from string
	to   []string
}{
	{"snapfs/cmd/...", []string{"snapfs/cmd/...", "snapfs/fs", "snapfs/snapshot", "snapfs/snapshot/...", "snapfs/store"}},
	{"snapfs/fs", []string{"snapfs/snapshot", "snapfs/store"}},
	{"snapfs/snapshot/archive", []string{"snapfs/snapshot", "snapfs/store", "snapfs/store/volume", "snapfs/store/seal"}},
	{"snapfs/snapshot/...", []string{"snapfs/snapshot", "snapfs/store"}},
	{"snapfs/snapshot", []string{"snapfs/store"}},
	{"snapfs/store", []string{"snapfs/store/..."}},
	{"snapfs/store/storetest", []string{"snapfs/store", "snapfs/store/..."}},
	{"snapfs/store/...", nil},
	{"snapfs/integration", nil},
	{"snapfs/integration/...", nil},
}

// doors says where a module from outside may be imported: its types are known nowhere else.
var doors = []struct {
	module string
	in     []string
}{
	{"github.com/urfave/cli/v2", []string{"snapfs/cmd/..."}},
	{"golang.org/x/term", []string{"snapfs/cmd/..."}},
	{"github.com/hanwen/go-fuse/v2", []string{"snapfs/fs"}},
	{"github.com/dgraph-io/badger/v4", []string{"snapfs/store"}},
	{"github.com/klauspost/compress", []string{"snapfs/store", "snapfs/store/..."}},
	{"github.com/klauspost/reedsolomon", []string{"snapfs/store", "snapfs/store/..."}},
	{"github.com/zeebo/xxh3", []string{"snapfs/store", "snapfs/store/..."}},
	{"github.com/zeebo/blake3", []string{"snapfs/store", "snapfs/store/..."}},
	{"filippo.io/age", []string{"snapfs/store/seal"}},
	{"github.com/minio/minio-go/v7", []string{"snapfs/store/target"}},
	{"github.com/pkg/sftp", []string{"snapfs/store/target"}},
}

// goPackage is what the test needs of go list's answer.
type goPackage struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func goList(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"/...")
	cmd.Dir = ".."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.Bytes())
	}
	var list []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// within reports whether an import path matches a pattern.
func within(importPath, pattern string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return strings.HasPrefix(importPath, dir+"/")
	}
	return importPath == pattern
}

func withinAny(importPath string, patterns []string) bool {
	for _, p := range patterns {
		if within(importPath, p) {
			return true
		}
	}
	return false
}

func TestImportDirection(t *testing.T) {
	for _, p := range goList(t) {
		known := false
		for _, rule := range allowed {
			if known = within(p.ImportPath, rule.from); !known {
				continue
			}
			for _, imported := range p.Imports {
				if within(imported, module+"/...") && !withinAny(imported, rule.to) {
					t.Errorf("%s must not import %s", p.ImportPath, imported)
				}
			}
			break
		}
		if !known {
			t.Errorf("%s is no package of the layout", p.ImportPath)
		}
	}
}

func TestOneDoorPerDependency(t *testing.T) {
	for _, p := range goList(t) {
		for _, imported := range p.Imports {
			for _, door := range doors {
				if (imported == door.module || within(imported, door.module+"/...")) && !withinAny(p.ImportPath, door.in) {
					t.Errorf("%s must not import %s", p.ImportPath, imported)
				}
			}
		}
	}
}

// TestNoForeignTypes finds types of modules from outside in what packages export.
func TestNoForeignTypes(t *testing.T) {
	for _, p := range goList(t) {
		if within(p.ImportPath, module+"/cmd/...") {
			continue // nobody imports it
		}
		for _, file := range p.GoFiles {
			checkExported(t, p.ImportPath, filepath.Join(p.Dir, file))
		}
	}
}

func checkExported(t *testing.T, importPath, file string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	foreign := foreignImports(f)
	report := func(name string, n ast.Node) {
		if n == nil {
			return
		}
		ast.Inspect(n, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && foreign[x.Name] != "" {
				t.Errorf("%s exports %s with %s.%s of %s", importPath, name, x.Name, sel.Sel.Name, foreign[x.Name])
			}
			return true
		})
	}
	for _, d := range f.Decls {
		inspectExported(d, report)
	}
}

// foreignImports maps the names under which a file knows packages of other modules to their import paths.
func foreignImports(f *ast.File) map[string]string {
	foreign := map[string]string{}
	for _, spec := range f.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !strings.Contains(strings.SplitN(p, "/", 2)[0], ".") {
			continue
		}
		name := path.Base(p)
		if len(name) > 1 && name[0] == 'v' && strings.Trim(name[1:], "0123456789") == "" {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		foreign[name] = p
	}
	return foreign
}

// inspectExported hands every type that a declaration makes visible to other packages to report.
func inspectExported(d ast.Decl, report func(name string, n ast.Node)) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || receiverExported(d.Recv)) {
			report(d.Name.Name, d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					inspectType(s.Name.Name, s.Type, report)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && s.Type != nil {
						report(name.Name, s.Type)
					}
				}
			}
		}
	}
}

func inspectType(name string, n ast.Expr, report func(name string, n ast.Node)) {
	var fields []*ast.Field
	switch n := n.(type) {
	case *ast.StructType:
		fields = n.Fields.List
	case *ast.InterfaceType:
		fields = n.Methods.List
	default:
		report(name, n)
		return
	}
	for _, f := range fields {
		visible := len(f.Names) == 0
		for _, n := range f.Names {
			visible = visible || n.IsExported()
		}
		if visible {
			report(name, f.Type)
		}
	}
}

func receiverExported(recv *ast.FieldList) bool {
	exported := false
	ast.Inspect(recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			exported = id.IsExported()
			return false
		}
		return true
	})
	return exported
}
