package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
	"snapfs/store"
)

// manySnapshots makes a store with n snapshots of dataset d, an hour apart, which have nothing but a manifest's place. It returns
// their IDs, oldest first.
func manySnapshots(t testing.TB, n int) (ids []string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	t.Setenv("SNAPFS_STORE", dir)
	for _, name := range secretVariables {
		t.Setenv(name, "")
	}
	quiet(t, "init", "--no-encryption", "--quiet")
	p := newProgram(strings.NewReader(""), &strings.Builder{}, &strings.Builder{})
	p.global.store = dir
	err := p.withStore(context.Background(), "test", func(st *store.Store) error {
		summary := (&snapshot.Summary{Host: "host", Paths: []string{"/home"}, Entries: 1}).Encode()
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for i := range n {
			at := start.Add(time.Duration(i) * time.Hour)
			id := store.ID{}
			binary.BigEndian.PutUint64(id[:], uint64(i)<<24|0xabcdef)
			ids = append(ids, id.String())
			_, err := st.Commit(context.Background(), store.Commit{
				Dataset: "d", Snapshot: id, Name: at.Format("2006-01-02_15-04-05"), Start: at, Summary: summary,
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// quiet runs a command line that must succeed and returns its output.
func quiet(t testing.TB, args ...string) string {
	t.Helper()
	var out, errOut strings.Builder
	if code := run(context.Background(), append([]string{"snapfs"}, args...), strings.NewReader(""), &out, &errOut); code != exitDone {
		t.Fatalf("%q: exit code %d: %s", args, code, errOut.String())
	}
	return out.String()
}

// TestForgetMany forgets and brings back a thousand at once, by rules and by name; one fact, so all or none.
func TestForgetMany(t *testing.T) {
	const n = 1000
	ids := manySnapshots(t, n)
	out := quiet(t, "forget", "--keep-last", "10", "--timezone", "UTC")
	if !strings.HasSuffix(out, "forgot 990 snapshots, kept 10\n") {
		t.Errorf("%s", out[max(0, len(out)-100):])
	}
	if got := strings.Count(quiet(t, "snapshots", "--forgotten"), "d@"); got != n-10 {
		t.Errorf("%d forgotten", got)
	}
	quiet(t, append([]string{"unforget"}, ids[:n-10]...)...)
	if got := strings.Count(quiet(t, "snapshots"), "d@"); got != n {
		t.Errorf("%d are there", got)
	}
	quiet(t, append([]string{"forget"}, ids[1:]...)...)
	if got := quiet(t, "snapshots"); strings.Count(got, "d@") != 1 || !strings.Contains(got, "d@2026-01-01_00-00-00") {
		t.Errorf("left: %s", got)
	}
}

// BenchmarkForget forgets snapshots by rules and brings them back, each in a process's whole run: unlocking and opening included.
// SNAPFS_BENCH_SNAPSHOTS says how many there are.
func BenchmarkForget(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv("SNAPFS_BENCH_SNAPSHOTS"))
	if err != nil {
		n = 1000
	}
	ids := manySnapshots(b, n)
	for b.Loop() {
		started := time.Now()
		quiet(b, "forget", "--keep-last", "1", "--quiet")
		forgot := time.Now()
		quiet(b, append([]string{"unforget", "--quiet"}, ids[:n-1]...)...)
		b.ReportMetric(forgot.Sub(started).Seconds(), "s/forget")
		b.ReportMetric(time.Since(forgot).Seconds(), "s/unforget")
	}
	b.ReportMetric(0, "ns/op")
	fmt.Fprintln(os.Stderr, n, "snapshots")
}
