package backup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/snapshot"
	"snapfs/store"
)

// reached are the blobs that a snapshot reaches, itself included, each before what it names.
func reached(t testing.TB, repo *fakeRepo, kind store.Kind, id store.ID) (list []store.VerifiedBlob) {
	t.Helper()
	seen := map[store.ID]bool{}
	var visit func(kind store.Kind, id store.ID)
	visit = func(kind store.Kind, id store.ID) {
		if seen[id] {
			return
		}
		seen[id] = true
		list = append(list, store.VerifiedBlob{Kind: kind, ID: id})
		if kind == store.KindNode || kind == store.KindManifest {
			data, err := repo.Get(t.Context(), kind, id)
			must(t, err)
			must(t, snapshot.References(kind, data, visit))
		}
	}
	visit(kind, id)
	return list
}

// richTree has directories in several levels, one of several pages, long contents, linked files, and attributes in a blob.
func richTree(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	rng := rand.New(rand.NewPCG(5, 6))
	random := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('0' + rng.IntN(10))
		}
		return string(b)
	}
	files := map[string]string{"long": random(900 << 10), "a/b/c/d/deep": "deep", "a/b/c/long": random(800 << 10), "empty/": ""}
	for i := range 700 {
		files[fmt.Sprintf("many/%04d", i)] = fmt.Sprint(i)
		files[fmt.Sprintf("a/links/%04d", i)] = fmt.Sprint("linked ", i)
	}
	write(t, root, files)
	for i := range 700 {
		must(t, os.Link(filepath.Join(root, fmt.Sprintf("a/links/%04d", i)), filepath.Join(root, fmt.Sprintf("many/link%04d", i))))
	}
	must(t, os.Symlink("nowhere", filepath.Join(root, "a/b/symlink")))
	for _, name := range []string{"long", "a/b", "a/links/0007"} {
		if err := unix.Setxattr(filepath.Join(root, name), "user.large", []byte(name+strings.Repeat("x", 2000)), 0); err != nil {
			t.Logf("without attributes: %v", err)
		}
	}
	age(t, root)
	return root
}

// lose drops blobs.
func (r *fakeRepo) lose(blobs []store.VerifiedBlob) {
	for _, b := range blobs {
		r.Drop(b.ID)
	}
}

// lacking is what is not there of these blobs.
func (r *fakeRepo) lacking(blobs []store.VerifiedBlob) (list []store.ID) {
	for _, b := range blobs {
		if !r.Has(b.ID) {
			list = append(list, b.ID)
		}
	}
	return list
}

// mend brings back what the source gives, as verify does once; it must store nothing else.
func (r *fakeRepo) mend(t testing.TB, known []store.ID) {
	t.Helper()
	r.damaged = known
	lost := map[store.ID]bool{}
	for _, id := range known {
		lost[id] = true
	}
	puts := r.Puts
	m := newMender(r, nil)
	must(t, snapshot.FindAffected(t.Context(), r, func(id store.ID) bool { return lost[id] }, func(a snapshot.Affected) error {
		return m.Try(t.Context(), a)
	}))
	must(t, m.Finish(t.Context()))
	mended := 0
	for _, id := range known {
		if r.Has(id) != m.Mended(id) {
			t.Errorf("%v is there: %v, said to be: %v", id, r.Has(id), m.Mended(id))
		}
		if m.Mended(id) {
			mended++
		}
	}
	if r.Puts-puts != mended {
		t.Errorf("%d blobs were stored, %d mended", r.Puts-puts, mended)
	}
}

// TestMender loses all kinds of blobs of a snapshot, alone and together: an unchanged source gives all of them back.
func TestMender(t *testing.T) {
	root := richTree(t)
	repo := newFakeRepo(t)
	id := repo.backup(t, Options{Paths: []string{root}}).Snapshot.ID
	blobs := reached(t, repo, store.KindManifest, id)[1:]
	kinds := map[store.Kind]int{}
	var nodes []store.VerifiedBlob
	for _, b := range blobs {
		if kinds[b.Kind]++; b.Kind != store.KindChunk {
			nodes = append(nodes, b)
		}
	}
	t.Logf("%d chunks, %d nodes, %d sets of attributes", kinds[store.KindChunk], kinds[store.KindNode], kinds[store.KindXattrs])
	cases := map[string][]store.VerifiedBlob{"all": blobs, "nodes": nodes}
	for i, b := range nodes {
		cases[fmt.Sprintf("node %d", i)] = []store.VerifiedBlob{b}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 10 {
		var some []store.VerifiedBlob
		for _, b := range blobs {
			if rng.IntN(20) <= 2*i {
				some = append(some, b)
			}
		}
		cases[fmt.Sprintf("%d of %d", len(some), len(blobs))] = some
	}
	for name, lost := range cases {
		repo.lose(lost)
		repo.mend(t, repo.lacking(blobs))
		if left := repo.lacking(blobs); len(left) > 0 {
			t.Fatalf("%s: %d of %d are still lost", name, len(left), len(lost))
		}
	}
	t.Run("unknown below", func(t *testing.T) { // as when the index is lost with the volume: each round shows the next level
		repo.lose(nodes)
		rounds := 0
		for ; len(repo.lacking(blobs)) > 0 && rounds < len(nodes); rounds++ {
			repo.mend(t, visible(t, repo, id))
		}
		if left := repo.lacking(blobs); len(left) > 0 || rounds < 5 {
			t.Errorf("after %d rounds %d are still lost", rounds, len(left))
		}
	})
	compare(t, repo.tree(t, id), root)
}

// TestNextBackupEncodesAnew loses each node of a snapshot, and all of them: the next backup of the unchanged source stores them anew.
func TestNextBackupEncodesAnew(t *testing.T) {
	root := richTree(t)
	repo := newFakeRepo(t)
	o := Options{Paths: []string{root}}
	id := repo.backup(t, o).Snapshot.ID
	var nodes []store.VerifiedBlob
	for _, b := range reached(t, repo, store.KindManifest, id)[1:] {
		if b.Kind != store.KindChunk {
			nodes = append(nodes, b)
		}
	}
	for i := range len(nodes) + 1 {
		lost := nodes
		if i < len(nodes) {
			lost = nodes[i : i+1]
		}
		repo.lose(lost)
		repo.damaged = repo.lacking(nodes)
		repo.backup(t, o)
		if left := repo.lacking(nodes); len(left) > 0 {
			t.Errorf("node %d: %d of %d are still lost", i, len(left), len(lost))
		}
	}
	compare(t, repo.tree(t, id), root)
}

// countingRepo counts the chunks that were read from the source.
type countingRepo struct {
	*fakeRepo
	chunks atomic.Int64
}

func (r *countingRepo) BlobID(kind store.Kind, data []byte) store.ID {
	if kind == store.KindChunk {
		r.chunks.Add(1)
	}
	return r.fakeRepo.BlobID(kind, data)
}

// TestMenderReadsLittle: what a snapshot cannot tell any more of its files, the one before it knows.
func TestMenderReadsLittle(t *testing.T) {
	root := richTree(t)
	repo := newFakeRepo(t)
	repo.backup(t, Options{Paths: []string{root}})
	write(t, root, map[string]string{"later": "x"})
	id := repo.backup(t, Options{Paths: []string{root}}).Snapshot.ID
	page := repo.tree(t, id).Root().Dir
	repo.Drop(page)
	repo.damaged = []store.ID{page}
	counting := &countingRepo{fakeRepo: repo}
	m := newMender(counting, nil)
	must(t, snapshot.FindAffected(t.Context(), repo, func(id store.ID) bool { return id == page }, func(a snapshot.Affected) error {
		return m.Try(t.Context(), a)
	}))
	must(t, m.Finish(t.Context()))
	if n := counting.chunks.Load(); !repo.Has(page) || n == 0 || n > 800 { // linked files are read
		t.Errorf("there: %v, %d chunks read", repo.Has(page), n)
	}
}

// visible are the lost blobs that what is there names.
func visible(t testing.TB, repo *fakeRepo, id store.ID) (lost []store.ID) {
	t.Helper()
	var visit func(kind store.Kind, id store.ID)
	visit = func(kind store.Kind, id store.ID) {
		if !repo.Has(id) {
			lost = append(lost, id)
		} else if kind == store.KindNode || kind == store.KindManifest {
			data, err := repo.Get(t.Context(), kind, id)
			must(t, err)
			must(t, snapshot.References(kind, data, visit))
		}
	}
	visit(store.KindManifest, id)
	return lost
}

// TestMenderChangedSource: what still is as it was comes back, and nothing else is stored.
func TestMenderChangedSource(t *testing.T) {
	root := richTree(t)
	repo := newFakeRepo(t)
	id := repo.backup(t, Options{Paths: []string{root}}).Snapshot.ID
	blobs := reached(t, repo, store.KindManifest, id)[1:]
	page := func(path string) store.ID {
		d, err := repo.tree(t, id).Walk(t.Context(), path)
		must(t, err)
		return d.Dir
	}
	changed := []store.ID{page("/"), page("/a"), page("/a/b"), page("/a/b/c")}
	same := []store.ID{page("/a/b/c/d"), page("/a/links"), page("/many")}
	repo.lose(blobs)
	write(t, root, map[string]string{"a/b/c/new": "new"})
	repo.mend(t, repo.lacking(blobs))
	for _, id := range same {
		if !repo.Has(id) {
			t.Errorf("%v is as it was and still lost", id)
		}
	}
	for _, id := range changed {
		if repo.Has(id) {
			t.Errorf("%v is there, whatever it is", id)
		}
	}
	must(t, os.RemoveAll(root))
	repo.mend(t, repo.lacking(blobs))
}

// TestMenderFresh: whether an entry was fresh hangs on when it was read, at the beginning of the backup or at its end.
func TestMenderFresh(t *testing.T) {
	for _, late := range []bool{false, true} {
		root := t.TempDir()
		path := filepath.Join(root, "f")
		must(t, os.WriteFile(path, []byte("x"), 0o644))
		info, err := os.Stat(path)
		must(t, err)
		start := info.ModTime()
		o := Options{Paths: []string{root}, Dataset: "test", Time: start}
		repo := newFakeRepo(t)
		age(t, root)
		res, err := backupTree(t.Context(), repo, &o, hooks{begun: func(r *run) {
			if !late {
				r.now = func() time.Time { return start }
			}
		}})
		must(t, err)
		tree := repo.tree(t, res.Snapshot.ID)
		if e := listTree(t, tree)["f"]; e.Fresh == late {
			t.Fatalf("%+v", e)
		}
		repo.Drop(tree.Root().Dir)
		repo.mend(t, []store.ID{tree.Root().Dir})
		if !repo.Has(tree.Root().Dir) {
			t.Errorf("read late %v: the page is still lost", late)
		}
	}
}

// TestMenderManifest: a manifest comes back with the help of what its commit says, as long as the directories above are as they were,
// which others may change meanwhile.
func TestMenderManifest(t *testing.T) {
	root := richTree(t)
	for try := 1; ; try++ {
		repo := newFakeRepo(t)
		o := Options{Paths: []string{root}, Exclude: []string{"nothing"}, Tags: []string{"b", "a"}}
		repo.backup(t, o)
		id := repo.backup(t, o).Snapshot.ID
		blobs := reached(t, repo, store.KindManifest, id)
		repo.lose(blobs)
		repo.mend(t, repo.lacking(blobs))
		left := repo.lacking(blobs)
		if len(left) == 0 {
			return
		}
		if len(left) > 1 || left[0] != id || try == 20 {
			t.Fatalf("%d of %d are still lost", len(left), len(blobs))
		}
	}
}

// TestMenderCommitsNothing: a walk that takes long, or is interrupted, leaves no partial snapshot, whose nodes would not be there.
func TestMenderCommitsNothing(t *testing.T) {
	r := &run{o: &Options{PartialInterval: time.Millisecond}, mending: &mending{}} // anything would be a nil dereference
	interrupted, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	r.partials(interrupted, t.Context(), nil)
}
