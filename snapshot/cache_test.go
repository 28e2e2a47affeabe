package snapshot

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"snapfs/snapshot/snapshottest"
	"snapfs/store"
)

// gate is a Source whose reads say that they have begun, and wait until it is opened.
type gate struct {
	*snapshottest.Blobs
	begun chan struct{}
	open  chan struct{}
}

func newGate(b *snapshottest.Blobs) gate {
	return gate{b, make(chan struct{}, 8), make(chan struct{})}
}

func (g gate) Get(ctx context.Context, kind store.Kind, id store.ID) ([]byte, error) {
	g.begun <- struct{}{}
	select {
	case <-g.open:
		return g.Blobs.Get(ctx, kind, id)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestCacheReadsOnce(t *testing.T) {
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, dirModel{"a": file(1)}, 0)})
	g := newGate(b)
	tree.src = g
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := tree.Lookup(context.Background(), tree.Root(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	<-g.begun
	time.Sleep(time.Millisecond) // for the others to come as well; what is tested holds also if they come later
	close(g.open)
	all.Wait()
	if n := b.Gets[tree.Root().Dir]; n != 1 {
		t.Errorf("read %d times", n)
	}
}

// Who waits for another's read is not cancelled with it.
func TestCacheOutlivesCancel(t *testing.T) {
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, dirModel{"a": file(1)}, 0)})
	g := newGate(b)
	tree.src = g
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := tree.Lookup(ctx, tree.Root(), "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	<-g.begun
	all.Go(func() {
		if _, err := tree.Lookup(context.Background(), tree.Root(), "a"); err != nil {
			t.Errorf("not cancelled: %v", err)
		}
	})
	time.Sleep(time.Millisecond)
	cancel()
	time.Sleep(time.Millisecond)
	close(g.open)
	all.Wait()
}

func TestCacheKeepsBudget(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	tree := largeDir(t, b, 20_000)
	for _, budget := range []int64{1, 300_000, 1 << 30} {
		c := NewCache(budget)
		tree.cache = c
		for range 2 {
			if err := tree.List(ctx, tree.Root(), 0, func(Found) bool { return true }); err != nil {
				t.Fatal(err)
			}
		}
		var sum, most int64
		n := 0
		for e := c.ring.next; e != &c.ring; e = e.next {
			sum += e.page.size
			most = max(most, e.page.size)
			n++
			if c.pages[e.key] != e {
				t.Fatal("page is in the list and not in the map")
			}
		}
		if sum != c.used || n != len(c.pages) || sum > budget && n > 1 {
			t.Errorf("budget %d: %d pages in list, %d in map, %d bytes, counted %d", budget, n, len(c.pages), sum, c.used)
		}
	}
}

// An error is not kept: a store that has recovered is asked again.
func TestCacheForgetsErrors(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	tree := open(t, b, Manifest{Root: build(t, b, dirModel{"a": file(1)}, 0)})
	tree.src = snapshottest.New()
	var missing *store.MissingError
	if _, err := tree.Lookup(ctx, tree.Root(), "a"); !errors.As(err, &missing) {
		t.Fatalf("missing page: %v", err)
	}
	tree.src = b
	if _, err := tree.Lookup(ctx, tree.Root(), "a"); err != nil {
		t.Error(err)
	}
}

func TestTreeConcurrently(t *testing.T) {
	ctx := context.Background()
	b := snapshottest.New()
	tree := largeDir(t, b, 5000)
	tree.cache = NewCache(200_000)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 300 {
				p := uint32((i*4+g)*37%5000 + 1)
				if f, err := tree.At(ctx, p); err != nil || f.Position != p {
					t.Errorf("at %d: %v", p, err)
				}
			}
		})
	}
	all.Wait()
}
