package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// leastBig is the size, in bytes, from which a file is large enough for the read tests.
const leastBig = 64 << 20

// corpus is a tree to back up.
type corpus struct {
	name    string
	dir     string
	entries int
	bytes   int64
	big     string   // path of a large file below dir, "" if there is none
	tarDirs []string // subtrees below dir to make tars of: the one with the most small files, and the one with the most that has little else
	changed []string // files that change touches, with their former contents
	former  map[string][]byte
}

// makeCorpora copies or makes the data.
func makeCorpora(ctx context.Context, s settings) ([]*corpus, error) {
	var list []*corpus
	if s.tree != "" {
		dir := filepath.Join(s.work, "src-tree")
		fmt.Fprintf(os.Stderr, "bench: copying %s\n", s.tree)
		if _, err := command(ctx, nil, "cp", "-a", "--one-file-system", s.tree, dir); err != nil {
			return nil, err
		}
		list = append(list, &corpus{name: "a real tree (" + s.tree + ")", dir: dir})
	}
	if s.small > 0 {
		dir := filepath.Join(s.work, "src-small")
		fmt.Fprintf(os.Stderr, "bench: making %d small files\n", s.small)
		if err := makeSmall(dir, s.small); err != nil {
			return nil, err
		}
		list = append(list, &corpus{name: fmt.Sprintf("%d small files", s.small), dir: dir})
	}
	if s.big > 0 {
		dir := filepath.Join(s.work, "src-big")
		fmt.Fprintf(os.Stderr, "bench: making a file of %d MiB\n", s.big>>20)
		if err := makeBig(dir, s.big); err != nil {
			return nil, err
		}
		list = append(list, &corpus{name: fmt.Sprintf("one file of %d MiB", s.big>>20), dir: dir})
	}
	for _, c := range list {
		if err := c.survey(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// makeSmall writes files of 100 bytes to 16 KiB of text-like data, 100 to a directory.
func makeSmall(dir string, n int) error {
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the store keeps every point in time of data it protects shows all them as one read only file system and carries copies")
	buf := make([]byte, 0, 17<<10)
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("%03d", i/10000), fmt.Sprintf("%02d", i/100%100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		buf = buf[:0]
		for size := 100 << rng.IntN(8); len(buf) < size; {
			buf = append(append(buf, words[rng.IntN(len(words))]...), ' ')
			if rng.IntN(8) == 0 {
				buf = fmt.Appendf(buf, "%x ", rng.Uint64())
			}
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file-%d.txt", i)), buf, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// makeBig writes half incompressible, half compressible data.
func makeBig(dir string, size int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "big"))
	if err != nil {
		return err
	}
	rng := rand.NewChaCha8([32]byte{3})
	block := make([]byte, 1<<20)
	for n := int64(0); n < size; n += int64(len(block)) {
		_, _ = rng.Read(block)
		if n>>20%2 == 1 {
			for i := range block {
				block[i] = "abcdefgh"[block[i]&7]
			}
		}
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Close()
}

// survey counts the corpus and picks what the read tests use and what change changes: every 100th file.
func (c *corpus) survey() error {
	c.former = map[string][]byte{}
	var bigSize int64
	perDir := map[string]*subtree{}
	files := 0
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		c.entries++
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		c.bytes += info.Size()
		if files++; files%100 == 0 && info.Size() < 1<<20 {
			c.changed = append(c.changed, path)
		}
		if info.Size() > bigSize && info.Size() >= leastBig {
			c.big, bigSize = path, info.Size()
		}
		if rel, _ := filepath.Rel(c.dir, path); strings.Contains(rel, "/") {
			dir := rel[:strings.Index(rel, "/")]
			if perDir[dir] == nil {
				perDir[dir] = &subtree{}
			}
			perDir[dir].add(info.Size())
		}
		return nil
	})
	if files == 1 {
		c.changed = []string{c.big}
	}
	c.pickTarDirs(perDir)
	if c.big != "" {
		c.big, err = filepath.Rel(c.dir, c.big)
	}
	return err
}

// subtree is what survey counts below each directory of the top level.
type subtree struct {
	small      int   // files below 64 KiB
	bytes, big int64 // in all files, in files of 1 MiB and more
}

func (t *subtree) add(size int64) {
	t.bytes += size
	if size < 64<<10 {
		t.small++
	}
	if size >= 1<<20 {
		t.big += size
	}
}

// pickTarDirs takes the directory with the most small files, and the one with the most where they are not beside large ones.
func (c *corpus) pickTarDirs(perDir map[string]*subtree) {
	var most, pure string
	for _, dir := range slices.Sorted(maps.Keys(perDir)) {
		t := perDir[dir]
		if most == "" || t.small > perDir[most].small {
			most = dir
		}
		if t.big*2 < t.bytes && (pure == "" || t.small > perDir[pure].small) {
			pure = dir
		}
	}
	for _, dir := range slices.Compact([]string{pure, most}) {
		if dir != "" {
			c.tarDirs = append(c.tarDirs, dir)
		}
	}
}

// change rewrites 1 % of the files, or 1 % of a single one.
func (c *corpus) change() error {
	time.Sleep(20 * time.Millisecond) // so that times differ
	for _, path := range c.changed {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.Size() > 64<<20 {
			if err := patch(path, info.Size()); err != nil {
				return err
			}
			continue
		}
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.former[path] = old
		if err := os.WriteFile(path, append([]byte("changed "), old...), info.Mode()); err != nil {
			return err
		}
	}
	return nil
}

// patch overwrites 1 % of a large file at 16 places.
func patch(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	block := make([]byte, size/100/16)
	rng := rand.NewChaCha8([32]byte{byte(time.Now().UnixNano())})
	for i := range int64(16) {
		_, _ = rng.Read(block)
		if _, err := f.WriteAt(block, size/16*i); err != nil {
			return err
		}
	}
	return f.Close()
}

// restore undoes change, except in large files, whose other bytes serve as well.
func (c *corpus) restore(context.Context) error {
	for path, old := range c.former {
		if err := os.WriteFile(path, old, 0o644); err != nil {
			return err
		}
	}
	clear(c.former)
	return nil
}
