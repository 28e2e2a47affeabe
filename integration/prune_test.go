package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// pruneSummary is the last object of prune --json.
type pruneSummary struct {
	Removed   int   `json:"volumes_removed"`
	Rewritten int   `json:"volumes_rewritten"`
	Freed     int64 `json:"bytes_freed"`
}

func (o outcome) pruned(t testing.TB) (s pruneSummary) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &s); err != nil {
		t.Fatalf("summary: %v in %s", err, tail(o.stdout))
	}
	return s
}

// TestPruneUnderLoad prunes again and again while one process holds the store and shows it, and others show it through the first, take
// backups and restore: everything kept stays right, and the space is given back although the mounts go on.
func TestPruneUnderLoad(t *testing.T) {
	needFUSE(t)
	w := newWorld(t)
	src := newChurn(t, w.mkdir("source"))
	src.files("files", 200)
	src.write("stays", 2<<20)
	first := "d@" + w.backup(0, "d", src.dir).Name
	want := map[string]string{first: sums(t, src.dir)}
	holder, mnt := w.holder("held")
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	for round := range rounds {
		src.write(fmt.Sprintf("round%d", round), 3<<20)
		src.files("files", 200)
		os.Remove(filepath.Join(src.dir, fmt.Sprintf("round%d", round-1)))
		name := "d@" + w.backup(0, "d", src.dir).Name
		want[name] = sums(t, src.dir)
		if round > 0 {
			for other := range want {
				if other != first && other != name {
					w.do(0, "forget", "--quiet", other)
					delete(want, other)
				}
			}
		}
		if round == rounds/2 { // the store gets another holder in the middle of all this
			holder.Process.Kill()
			holder.wait()
			w.do(0, "umount", "--lazy", mnt)
			holder, mnt = w.holder(fmt.Sprintf("held%d", round))
		}
		client, through := w.holder("through") // shows what is there now
		if !holds(t, holder.Process.Pid) || holds(t, client.Process.Pid) {
			t.Fatal("the store is held by another process than the first")
		}
		prune := w.start("prune", "--max-waste", "0", "--json")
		other := w.start("backup", "--quiet", "--dataset", "other", src.dir)
		var reading sync.WaitGroup
		read := func(mnt string, names ...string) {
			for more := true; more; { // until the prune has ended
				more = !prune.ended()
				for _, name := range names {
					differ(t, mnt+" while prune runs", want[name], sums(t, filepath.Join(mnt, strings.Replace(name, "@", "/", 1))))
				}
			}
		}
		reading.Go(func() { read(mnt, first) })
		reading.Go(func() { read(through, first, name) })
		differ(t, "restored while prune runs", want[name], w.restored(name))
		reading.Wait()
		other.want(0)
		prune.want(0)
		letsGo(t, client)
		w.umount(through)
		w.do(0, "forget", "--quiet", "--all", "--dataset", "other")
	}
	w.do(0, "prune", "--max-waste", "0")
	if size := usage(t, w.store); size > 10<<20 { // 2 and 3 MiB, small files, journals
		t.Errorf("%d bytes left: %+v", size, volumes(t, w.store))
	}
	for name, want := range want {
		differ(t, name, want, w.restored(name))
	}
	w.do(0, "verify", "--data")
	letsGo(t, holder)
	w.umount(mnt)
}

// letsGo waits until a process has no removed volume open any more.
func letsGo(t testing.TB, j *job) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		left := deletedOpen(t, j.Process.Pid)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("removed and still open: %v", left)
		}
	}
}

// openFiles lists what a process has open.
func openFiles(t testing.TB, pid int) (list []string) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		to, _ := os.Readlink(filepath.Join(dir, e.Name()))
		list = append(list, to)
	}
	return list
}

// deletedOpen lists the removed volumes that a process has open.
func deletedOpen(t testing.TB, pid int) (list []string) {
	return slices.DeleteFunc(openFiles(t, pid), func(to string) bool {
		return !strings.Contains(to, "/volumes/") || !strings.HasSuffix(to, "(deleted)")
	})
}

// holds reports whether a process holds a store: only that one opens its index.
func holds(t testing.TB, pid int) bool {
	return slices.ContainsFunc(openFiles(t, pid), func(to string) bool { return strings.Contains(to, "/store/index/") })
}

// TestPruneFullDisk gives space back on a disk without a byte left, and with as much as snapfs leaves.
func TestPruneFullDisk(t *testing.T) {
	needRoot(t)
	for _, how := range []string{"filled by others", "filled by backups"} {
		t.Run(how, func(t *testing.T) {
			w, disk := worldOnTmpfs(t, "120M")
			src := newChurn(t, w.mkdir("source"))
			src.files("files", 100)
			src.write("large", 20<<20)
			gone := "d@" + w.backup(0, "d", src.dir).Name
			src.write("large", 1<<20)
			kept := "d@" + w.backup(0, "d", src.dir).Name
			want := sums(t, src.dir)
			if how == "filled by others" {
				fill(t, filepath.Join(disk, "filler"))
			} else {
				for i := range 100 {
					src.write(fmt.Sprint("more", i), 2<<20)
				}
				w.do(1, "backup", "--dataset", "d", src.dir)
			}
			w.do(0, "forget", gone)
			s := w.do(0, "prune", "--max-waste", "0", "--json").pruned(t)
			if s.Freed < 15<<20 {
				t.Errorf("freed %d bytes", s.Freed)
			}
			differ(t, "kept", want, w.restored(kept))
			os.Remove(filepath.Join(disk, "filler"))
			w.do(0, "verify", "--data")
		})
	}
}
