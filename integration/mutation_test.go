package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// mutate does to files what people and programs do while a backup reads them, until ctx ends.
func mutate(ctx context.Context, dir string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, seed))
	data := make([]byte, 3<<20)
	for ctx.Err() == nil {
		path := filepath.Join(dir, fmt.Sprint(rnd.IntN(10)), fmt.Sprint(rnd.IntN(30)))
		switch rnd.IntN(8) {
		case 0:
			os.RemoveAll(path)
		case 1:
			os.RemoveAll(path)
			os.MkdirAll(filepath.Join(path, "sub"), 0o755)
			os.WriteFile(filepath.Join(path, "sub", "file"), data[:rnd.IntN(5000)], 0o644)
		case 2:
			os.Truncate(path, rnd.Int64N(1<<20))
		case 3:
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0); err == nil {
				f.Write(data[:rnd.IntN(200_000)])
				f.Close()
			}
		case 4:
			os.Rename(path, filepath.Join(dir, fmt.Sprint(rnd.IntN(10)), fmt.Sprint(rnd.IntN(30))))
		case 5:
			os.RemoveAll(path)
			os.Symlink("elsewhere", path)
		case 6:
			os.RemoveAll(filepath.Dir(path))
			os.MkdirAll(filepath.Dir(path), 0o755)
		default:
			os.WriteFile(path, data[:rnd.IntN(len(data))], 0o400|os.FileMode(rnd.IntN(0o1000)))
		}
	}
}

// TestMutation takes snapshots of a tree that never rests: none fails, and each holds what it says it holds.
func TestMutation(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	for i := range 10 {
		src.files(fmt.Sprint(i), 30)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range uint64(2) {
		running.Go(func() { mutate(ctx, src.dir, i) })
	}
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	var names []string
	unstable := int64(0)
	for range rounds {
		o := w.start("backup", "--json", "--dataset", "d", src.dir).wait()
		if o.code != 0 && o.code != 3 {
			t.Fatalf("exit code %d: %s", o.code, tail(o.stderr))
		}
		s := o.summary(t)
		names = append(names, "d@"+s.Name)
		unstable += s.Unstable
	}
	stop()
	running.Wait()
	t.Logf("%d entries were unstable", unstable)
	for _, name := range names {
		w.checkRecorded(name)
	}
	s := w.backup(0, "d", src.dir)
	differ(t, "at rest", sums(t, src.dir), w.restored("d@"+s.Name))
}

// checkRecorded restores a snapshot and compares sizes and types with what is recorded.
func (w *world) checkRecorded(snap string) {
	w.t.Helper()
	out := w.path("recorded")
	defer os.RemoveAll(out)
	w.do(0, "restore", snap, "--to", out)
	listed := w.start("ls", "-R", "--json", snap).wait()
	for dec := json.NewDecoder(strings.NewReader(listed.stdout)); ; {
		var e struct {
			Path, Type string
			Size       int64
		}
		if err := dec.Decode(&e); err == io.EOF {
			return
		} else if err != nil {
			w.t.Fatal(err)
		}
		info, err := os.Lstat(filepath.Join(out, e.Path))
		switch {
		case err != nil:
			w.t.Errorf("%s: %s was not restored: %v", snap, e.Path, err)
		case info.IsDir() != (e.Type == "dir") || e.Type == "file" && info.Size() != e.Size:
			w.t.Errorf("%s: %s is recorded as %s of %d bytes, restored as %v of %d", snap, e.Path, e.Type, e.Size, info.Mode(), info.Size())
		}
	}
}

// TestGrowing takes snapshots of a file that somebody appends to all the time: each holds a beginning of it.
func TestGrowing(t *testing.T) {
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.write("log", 24<<20)
	log := filepath.Join(src.dir, "log")
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() {
		f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return
		}
		defer f.Close()
		for i := 0; ctx.Err() == nil; i++ {
			fmt.Fprintf(f, "line %d\n", i)
			time.Sleep(200 * time.Microsecond)
		}
	})
	var names []string
	unstable := int64(0)
	for round := 0; round < 4 || unstable == 0 && round < 100; round++ { // on a busy machine the writer may sleep for long
		s := w.backup(0, "d", src.dir)
		names, unstable = append(names, "d@"+s.Name), unstable+s.Unstable
	}
	stop()
	running.Wait()
	if unstable == 0 {
		t.Error("nothing was unstable")
	}
	for _, name := range names {
		w.checkRecorded(name)
		sh(t, w.dir, `"$1" --store "$2" --key-file "$3" cat "$4":/log >part; cmp -n "$(stat -c %s part)" part source/log; [ -s part ]`,
			snapfs, w.store, w.path("key"), name)
	}
}
