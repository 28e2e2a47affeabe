package fs

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"snapfs/snapshot"
)

// kernelCache is what was pushed.
type kernelCache struct {
	mu     sync.Mutex
	pushed map[uint64][]byte
}

func (k *kernelCache) InodeNotifyStoreCache(node uint64, offset int64, data []byte) fuse.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	if offset != 0 {
		return fuse.EINVAL
	}
	k.pushed[node] = bytes.Clone(data)
	return fuse.OK
}

// smallFiles makes a server of a snapshot with n small files, a directory behind every fiftieth.
func smallFiles(t *testing.T, n int) (*server, *kernelCache, string) {
	t.Helper()
	src := t.TempDir()
	for i := range n {
		name := filepath.Join(src, fmt.Sprintf("f%05d", i))
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, i%3000), 0o644); err != nil {
			t.Fatal(err)
		}
		if i%50 == 49 {
			if err := os.MkdirAll(name+"-dir/below", 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx := context.Background()
	mem := newMemStore("")
	mustImport(t, mem, "d", "n", src, testStart)
	state, _ := mem.State(ctx)
	v := newView(state, filter{}, nil)
	how, err := settle(&Options{}, v)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(ctx, mem, v, filter{}, how, slog.New(slog.DiscardHandler))
	k := &kernelCache{pushed: map[uint64][]byte{}}
	s.pusher.kernel = k
	t.Cleanup(s.close)
	return s, k, src
}

// files lists the node ids of the regular files of the root.
func files(t *testing.T, s *server) []uint64 {
	t.Helper()
	tree, err := s.tree(1)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uint64
	err = tree.List(context.Background(), tree.Root(), 0, func(f snapshot.Found) bool {
		if f.Type == snapshot.TypeFile && f.Size > 0 {
			ids = append(ids, nodeID(1, f.Position))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func readWhole(t *testing.T, s *server, id uint64) []byte {
	t.Helper()
	r, st := s.Read(nil, &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Size: 4096}, nil)
	if !st.Ok() {
		t.Fatal(st)
	}
	defer r.Done()
	data, _ := r.Bytes(make([]byte, 4096))
	return data
}

func TestPushInSequence(t *testing.T) {
	s, k, _ := smallFiles(t, 1000)
	reads := 0
	ids := files(t, s)
	for _, id := range ids {
		k.mu.Lock()
		data, pushed := k.pushed[id]
		k.mu.Unlock()
		if !pushed {
			reads++
			readWhole(t, s, id)
			s.pusher.running.Wait()
			continue
		}
		if want := readWhole(t, s, id); !bytes.Equal(data, want) {
			t.Fatalf("node %d was pushed wrong: %d bytes, want %d", id, len(data), len(want))
		}
	}
	if reads > len(ids)/4 {
		t.Errorf("%d of %d files had to be asked for", reads, len(ids))
	}
}

func TestNoPushAtRandom(t *testing.T) {
	s, k, _ := smallFiles(t, 600)
	ids := files(t, s)
	for i := range ids {
		readWhole(t, s, ids[i*211%len(ids)])
		s.pusher.running.Wait()
	}
	if len(k.pushed) > 0 {
		t.Errorf("%d files were pushed", len(k.pushed))
	}
}

func TestPushEndsWithTheDirectory(t *testing.T) {
	s, k, _ := smallFiles(t, 60)
	ids := files(t, s)
	for _, id := range ids[:30] {
		readWhole(t, s, id)
		s.pusher.running.Wait()
	}
	tree, err := s.tree(1)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := tree.Walk(context.Background(), "/f00049-dir")
	if err != nil {
		t.Fatal(err)
	}
	for id := range k.pushed {
		if _, position := splitID(id); position >= dir.Position {
			t.Errorf("position %d was pushed, beyond the directory at %d", position, dir.Position)
		}
	}
}

// TestPushedPagesAreRight reads a directory of small files through the kernel, twice, in order.
func TestPushedPagesAreRight(t *testing.T) {
	src := t.TempDir()
	for i := range 400 {
		data := bytes.Repeat([]byte(fmt.Sprintf("%07d\n", i)), 1+i*i%8000)
		if err := os.WriteFile(filepath.Join(src, fmt.Sprintf("f%04d", i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, job{Snapshots: []jobSnapshot{{Dataset: "d", Name: "n", Source: src}}})
	names(t, s.path("d/n"))
	for range 2 {
		for i := range 400 {
			name := fmt.Sprintf("f%04d", i)
			got, err := os.ReadFile(s.path("d/n", name))
			want, _ := os.ReadFile(filepath.Join(src, name))
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%s: %d bytes, want %d (%v)", name, len(got), len(want), err)
			}
		}
	}
}
