package backup

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestSizeSaysNothing reads a file of size 0 that has content, on what is not known as a pseudo file system.
func TestSizeSaysNothing(t *testing.T) {
	path := fmt.Sprintf("/proc/%d/status", os.Getpid())
	repo := newFakeRepo(t)
	o := Options{Paths: []string{path}, Dataset: "test"}
	res, err := backupTree(t.Context(), repo, &o, hooks{mounts: func() []mount {
		var out []mount
		for _, m := range readMounts() {
			if m.fsType == "proc" {
				m.fsType = "fuse.unknown"
			}
			out = append(out, m)
		}
		return out
	}})
	must(t, err)
	tree := repo.tree(t, res.Snapshot.ID)
	if got := content(t, tree, listTree(t, tree)["status"]); !strings.Contains(string(got), "VmPeak") {
		t.Errorf("%q", got)
	}
}

// TestPseudoFileIsReadAgain: the times of such a file say nothing.
func TestPseudoFileIsReadAgain(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"f": "0"})
	repo := newFakeRepo(t)
	h := hooks{mounts: func() []mount {
		out := readMounts()
		for i := range out {
			out[i].fsType = "proc"
		}
		return out
	}}
	for range 2 {
		res, err := backupTree(t.Context(), repo, &Options{Paths: []string{root}, Dataset: "test"}, h)
		must(t, err)
		if res.BytesRead != 1 {
			t.Errorf("%d bytes read", res.BytesRead)
		}
	}
}
