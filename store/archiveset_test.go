package store

import (
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"snapfs/store/volume"
)

func sampleSet(n byte) ArchiveSet {
	return ArchiveSet{
		ID: [16]byte{n, 1}, Name: "set", Pool: "weekly", Level: volume.Incremental, Parent: [16]byte{9}, Started: fromNanos(1e18 + int64(n)),
		Finished: fromNanos(2e18), KeepUntil: fromNanos(3e18),
		Snapshots: []ArchivedSnapshot{{ID{1}, "etc", "2026", fromNanos(5)}, {ID: ID{2}, Dataset: "home", Name: "x"}},
		Volumes: []ArchiveVolume{
			{ID: volume.ID{7}, Number: 1, Size: 99, Chunks: ID{8}, Where: "/media", Digest: [32]byte{1}},
			{ID: volume.ID{8}, Number: 2, Size: 5, Parity: true, Torn: true},
		},
		Plain: 7, Chunks: 8, Lost: 9, Resume: []byte("go on"),
	}
}

func TestArchiveSetsAreKept(t *testing.T) {
	dir := newStore(t)
	st := openTrees(t, dir)
	a, b := sampleSet(1), sampleSet(2)
	must(t, st.SetArchive(t.Context(), b))
	must(t, st.SetArchive(t.Context(), a))
	a.Name = "changed"
	must(t, st.SetArchive(t.Context(), a))
	mark := ArchiveMark{State: "vault", Location: "box 17", Verified: fromNanos(4e18), Problem: "none"}
	must(t, st.MarkArchive(t.Context(), a.ID, mark))
	if err := st.MarkArchive(t.Context(), [16]byte{3}, mark); !errors.Is(err, ErrNotFound) {
		t.Errorf("mark of a set that is not known: %v", err)
	}
	a.State, a.Location, a.Verified, a.Problem = mark.State, mark.Location, mark.Verified, mark.Problem
	check := func(st *Store) {
		t.Helper()
		state, err := st.State(t.Context())
		must(t, err)
		if want := []ArchiveSet{a, b}; !reflect.DeepEqual(state.Archives, want) {
			t.Errorf("got %+v\nwant %+v", state.Archives, want)
		}
		if back := storeState(wireState(state)); !reflect.DeepEqual(back.Archives, state.Archives) {
			t.Errorf("on the other side of the socket: %+v", back.Archives)
		}
	}
	check(st)
	closeStore(t, st)
	st = openTrees(t, dir)
	defer closeStore(t, st)
	check(st)
}

// listOf stores a list of so many IDs.
func listOf(t *testing.T, st *Store, n int) (root ID, want []ID) {
	t.Helper()
	w := st.NewWriter()
	l := NewIDList(w)
	for i := range n {
		var id ID
		binary.BigEndian.PutUint64(id[:], uint64(i)*3)
		want = append(want, id)
		must(t, l.Add(t.Context(), id))
		must(t, l.Add(t.Context(), id))
	}
	root, count, err := l.Finish(t.Context())
	must(t, err)
	if count != uint64(n) {
		t.Errorf("%d IDs, want %d", count, n)
	}
	must(t, w.Flush(t.Context()))
	return root, want
}

func checkList(t *testing.T, st *Store, root ID, want []ID) {
	t.Helper()
	l := st.IDList(root)
	for i := 0; ; i++ {
		id, ok, err := l.Next(t.Context())
		must(t, err)
		if !ok {
			if i != len(want) {
				t.Errorf("%d IDs, want %d", i, len(want))
			}
			return
		}
		if i >= len(want) || id != want[i] {
			t.Fatalf("ID %d is another", i)
		}
	}
}

func TestIDLists(t *testing.T) {
	st := openTrees(t, newStore(t))
	defer closeStore(t, st)
	for _, n := range []int{0, 1, idPageSize, idPageSize + 1, 3*idPageSize + 7} {
		root, want := listOf(t, st, n)
		checkList(t, st, root, want)
	}
	l := NewIDList(st.NewWriter())
	must(t, l.Add(t.Context(), ID{2}))
	if err := l.Add(t.Context(), ID{1}); !errors.Is(err, ErrFields) {
		t.Errorf("out of order: %v", err)
	}
}

// TestPruneKeepsLists: the pages of a list stay as long as the set has not expired, and nothing that is in the list.
func TestPruneKeepsLists(t *testing.T) {
	now := time.Now()
	clock := func(o *Options) { o.Now = func() time.Time { return now } }
	dir := newStore(t)
	st := openTrees(t, dir, clock)
	tr := manyFiles(1, 5, 50_000)
	snap := tr.mustWrite(t, st)
	root, want := listOf(t, st, 3*idPageSize)
	a := sampleSet(1)
	a.Volumes[0].Chunks = root
	must(t, st.SetArchive(t.Context(), a))
	forgetAll(t, st, snap)
	closeStore(t, st)
	now = now.Add(8 * 24 * time.Hour)
	st = openTrees(t, dir, clock)
	mustPrune(t, st, PruneOptions{})
	checkList(t, st, root, want)
	if size, _ := volumesSize(t, st); size > 400_000 {
		t.Errorf("%d bytes left", size)
	}
	a.Expired, a.Volumes[0].Chunks = now, ID{}
	must(t, st.SetArchive(t.Context(), a))
	closeStore(t, st)
	now = now.Add(8 * 24 * time.Hour)
	st = openTrees(t, dir, clock)
	mustPrune(t, st, PruneOptions{})
	_, _, err := st.IDList(root).Next(t.Context())
	var missing *MissingError
	if !errors.As(err, &missing) {
		t.Errorf("list of an expired set: %v", err)
	}
	closeStore(t, st)
}

func FuzzArchiveSet(f *testing.F) {
	a := sampleSet(1)
	f.Add(a.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseArchiveSet([16]byte{1}, data)
		if err != nil {
			return
		}
		b, err := parseArchiveSet([16]byte{1}, a.encode())
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%v: %+v\n%+v", err, a, b)
		}
	})
}
