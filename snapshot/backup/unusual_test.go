package backup

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"snapfs/snapshot"
)

// day is a backup of a simulated source: shares of its files.
type day struct {
	rewritten, dense, removed, added, novel float64
	gap                                     time.Duration
	errors                                  uint64
}

func (d day) point(names float64) point {
	n := func(share float64) uint64 { return uint64(share*names + 0.5) }
	if d.gap == 0 {
		d.gap = 24 * time.Hour
	}
	a := snapshot.Activity{
		New: n(d.added), Changed: n(d.rewritten), Removed: n(d.removed), Rewritten: n(d.rewritten), Novel: n(d.novel), Dense: n(d.dense),
	}
	a.Unchanged = less(uint64(names), a.Changed+a.Removed)
	return point{a, d.errors, d.gap}
}

// usual makes a history of quiet days with something now and then.
func usual(n int, names float64, quiet float64, events map[int]day) (list []point) {
	rng := rand.New(rand.NewPCG(uint64(n), uint64(names)))
	for i := range n {
		d, ok := events[i]
		if !ok {
			x := quiet * 2 * rng.Float64()
			d = day{rewritten: x, dense: x / 5, removed: x / 3, added: x / 2, novel: x / 2}
		}
		list = append(list, d.point(names))
	}
	return list
}

func TestUnusual(t *testing.T) {
	upgrade := day{rewritten: 0.45, dense: 0.06, removed: 0.05, added: 0.08, novel: 0.08}
	ransom := day{rewritten: 0.9, dense: 0.85}
	renamed := day{removed: 0.9, added: 0.9, novel: 0.9, dense: 0.85}
	for _, c := range []struct {
		name    string
		history []point
		now     day
		names   float64
		want    string
	}{
		{"quiet", usual(30, 10000, 0.01, nil), day{rewritten: 0.02, dense: 0.01}, 10000, ""},
		{"first upgrade", usual(30, 10000, 0.001, nil), upgrade, 10000, ""},
		{"upgrade, few points", usual(1, 10000, 0.001, nil), upgrade, 10000, ""},
		{"photographs come in", usual(30, 10000, 0.001, nil), day{added: 3, novel: 3, dense: 3}, 10000, ""},
		{"photographs come in while all is moved", usual(30, 10000, 0.001, nil), day{removed: 1, added: 3, novel: 2, dense: 2}, 10000, ""},
		{"all is moved", usual(30, 10000, 0.001, nil), day{removed: 1, added: 1}, 10000, ""},
		{"another branch", usual(30, 10000, 0.01, nil), day{rewritten: 0.3, removed: 0.2, added: 0.3, novel: 0.3}, 10000, ""},
		{"cleaning up", usual(30, 10000, 0.01, nil), day{removed: 0.4}, 10000, ""},
		{"logs rotate every day", usual(10, 200, 0, map[int]day{
			0: {rewritten: 0.6, dense: 0.05}, 1: {rewritten: 0.6, dense: 0.05}, 2: {rewritten: 0.6, dense: 0.05}, 3: {rewritten: 0.6, dense: 0.05},
		}), day{rewritten: 0.65, dense: 0.05}, 200, ""},
		{"dumps, encrypted, all new every day", usual(4, 100, 0, map[int]day{0: ransom, 1: ransom, 2: ransom, 3: ransom}), ransom, 100, ""},
		{"the second weekly re-encryption", usual(20, 100, 0.01, map[int]day{5: ransom, 12: ransom}), ransom, 100, ""},
		{"the third month away", usual(20, 10000, 0.02, nil), day{rewritten: 0.4, dense: 0.2, removed: 0.5, gap: 90 * 24 * time.Hour}, 10000, ""},
		{"a small dataset", usual(20, 39, 0.01, nil), ransom, 39, ""},
		{"few files hit", usual(20, 60, 0.01, nil), day{rewritten: 0.3, dense: 0.3}, 60, ""},
		{"unreadable this time", usual(20, 1000, 0.01, nil), day{removed: 1, errors: 900}, 1000, ""},
		{"without parent", nil, day{added: 1, novel: 1, dense: 1}, 0, ""},
		{"second backup, half is gone", nil, day{removed: 0.95}, 1000, ""},

		{"encrypted in place", usual(30, 10000, 0.01, nil), ransom, 10000, "encrypted replaced"},
		{"encrypted in place after upgrades", usual(30, 10000, 0.01, map[int]day{3: upgrade, 10: upgrade, 17: upgrade, 24: upgrade}), ransom, 10000, "encrypted replaced"},
		{"encrypted and renamed", usual(30, 10000, 0.01, nil), renamed, 10000, "encrypted replaced"},
		{"a third encrypted", usual(30, 10000, 0.01, nil), day{rewritten: 0.33, dense: 0.3}, 10000, "encrypted"},
		{"encrypted, few points", usual(2, 10000, 0.01, nil), ransom, 10000, "encrypted"},
		{"encrypted, second backup", nil, ransom, 10000, "encrypted"},
		{"encrypted, long gap", usual(20, 10000, 0.005, nil), day{rewritten: 1, dense: 0.9, gap: 60 * 24 * time.Hour}, 10000, "encrypted replaced"},
		{"encrypted after some backups in a hurry", usual(4, 1891, 0, map[int]day{
			0: {removed: 0.46, gap: time.Second}, 1: {gap: time.Second}, 2: {rewritten: 0.32, dense: 0.28, gap: time.Second}, 3: {gap: 10 * time.Second},
		}), day{rewritten: 0.97, dense: 0.83, gap: time.Minute}, 1891, "encrypted replaced"},
		{"encrypted step by step: the second step", append(usual(20, 10000, 0.01, nil), day{rewritten: 0.24, dense: 0.24}.point(10000)),
			day{rewritten: 0.35, dense: 0.35}, 10000, "encrypted"},
		{"overwritten with zeros", usual(30, 10000, 0.01, nil), day{rewritten: 1}, 10000, "replaced"},
		{"deleted", usual(30, 10000, 0.01, nil), day{removed: 0.97, added: 0.01, novel: 0.01}, 10000, "lost"},
		{"the disk was not mounted", usual(2, 10000, 0.01, nil), day{removed: 1}, 10000, "lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, u := range unusual(c.now.point(c.names), c.history, false) {
				got = append(got, u.What)
				if s := u.String(); !strings.Contains(s, fmt.Sprint(u.Files)) || strings.Contains(s, "NaN") {
					t.Errorf("text: %s", s)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("%q, want %q", s, c.want)
			}
		})
	}
	if got := unusual(day{removed: 1}.point(1000), usual(20, 1000, 0.01, nil), true); len(got) != 0 {
		t.Errorf("other excludes: %v", got)
	}
}

// TestLifeIsUsual: years of backups of ordinary sources raise no alarm, whatever their habits are; the end does.
func TestLifeIsUsual(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		names := 50 * float64(1+rng.IntN(2000))
		quiet, weekly, monthly := 0.03*rng.Float64(), 0.1*rng.Float64(), 0.5*rng.Float64()
		var history []point
		for i := range 800 {
			x := quiet * rng.ExpFloat64()
			if i%7 == 6 {
				x += weekly * rng.Float64()
			}
			if i%30 == 29 {
				x += monthly
			}
			x = min(x, 0.7)
			d := day{rewritten: x, dense: x * 0.2 * rng.Float64(), removed: x * 0.3, added: x * 0.4, novel: x * 0.3}
			now := d.point(names)
			if got := unusual(now, history, false); len(got) > 0 {
				t.Fatalf("seed %d, backup %d: %v (%+v)", seed, i, got, d)
			}
			history = append(history, now)
		}
		end := day{rewritten: 0.95, dense: 0.8}.point(names)
		if got := unusual(end, history, false); len(got) == 0 {
			t.Errorf("seed %d: the end is not noticed", seed)
		}
	}
}

func TestDense(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	text := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog, 42 times. ", 1000))
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for n := denseLeast; n < len(random); n += n / 3 {
		if !dense(random[:n]) {
			t.Errorf("%d random bytes are not dense", n)
		}
		for name, data := range map[string][]byte{
			"text": text, "base64": []byte(base64.StdEncoding.EncodeToString(random)), "zeros": make([]byte, 1<<20), "a program": self,
		} {
			if n <= len(data) && dense(data[:n]) {
				t.Errorf("%d bytes of %s are dense", n, name)
			}
		}
	}
	if dense(random[:100]) {
		t.Error("100 bytes say nothing")
	}
}

// encrypt encrypts a file in place, or beside it with another name.
func encrypt(t *testing.T, path, suffix string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher([]byte("sixteen byte key"))
	if err != nil {
		t.Fatal(err)
	}
	iv := slices.Repeat([]byte(path), 16)[len(path):][:16]
	cipher.NewCTR(block, iv).XORKeyStream(data, data)
	if err := os.WriteFile(path+suffix, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if suffix != "" {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSuspicious takes real backups of a tree, before and after it is encrypted, moved, touched, emptied.
func TestSuspicious(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, dir string, i int)
		want   bool
	}{
		"nothing":          {func(*testing.T, string, int) {}, false},
		"encrypted":        {func(t *testing.T, dir string, i int) { encrypt(t, file(dir, i), "") }, true},
		"and renamed":      {func(t *testing.T, dir string, i int) { encrypt(t, file(dir, i), ".locked") }, true},
		"removed":          {func(t *testing.T, dir string, i int) { os.Remove(file(dir, i)) }, true},
		"zeroed":           {func(t *testing.T, dir string, i int) { os.WriteFile(file(dir, i), make([]byte, 100), 0o644) }, true},
		"other mode":       {func(t *testing.T, dir string, i int) { os.Chmod(file(dir, i), 0o600) }, false},
		"touched":          {func(t *testing.T, dir string, i int) { os.Chtimes(file(dir, i), time.Time{}, time.Unix(int64(i), 0)) }, false},
		"renamed":          {func(t *testing.T, dir string, i int) { os.Rename(file(dir, i), file(dir, i)+".old") }, false},
		"some are changed": {func(t *testing.T, dir string, i int) { writeText(t, file(dir, i), i*i, 0.5) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, dir := newFakeRepo(t), t.TempDir()
			for i := range 60 {
				writeText(t, file(dir, i), i, 1)
			}
			for range 3 {
				if res := r.backup(t, Options{Paths: []string{dir}}); len(res.Unusual) > 0 {
					t.Fatalf("quiet: %v", res.Unusual)
				}
				writeText(t, file(dir, 3), 1000, 1)
			}
			for i := range 60 {
				c.change(t, dir, i)
			}
			res := r.backup(t, Options{Paths: []string{dir}, Tags: []string{"z", "a"}})
			if got := len(res.Unusual) > 0; got != c.want || slices.Contains(res.Snapshot.Tags, snapshot.TagSuspicious) != c.want {
				t.Errorf("%v, tags %q", res.Unusual, res.Snapshot.Tags)
			}
			if m := r.tree(t, res.Snapshot.ID).Manifest(); slices.Contains(m.Tags, snapshot.TagSuspicious) != c.want || !slices.IsSorted(m.Tags) {
				t.Errorf("manifest has tags %q", m.Tags)
			}
		})
	}
}

func file(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("file%03d", i)) }

// writeText writes a file with a certain probability.
func writeText(t *testing.T, path string, seed int, chance float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(seed), 3))
	if rng.Float64() >= chance {
		return
	}
	text := strings.Repeat(fmt.Sprintf("line %d of a file that somebody wrote\n", seed), 10+rng.IntN(1500))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestActivityIsKept: the figures stand in the summary, and what a partial had counted is not lost.
func TestActivityIsKept(t *testing.T) {
	r, dir := newFakeRepo(t), t.TempDir()
	for i := range 50 {
		writeText(t, file(dir, i), i, 1)
	}
	first := r.backup(t, Options{Paths: []string{dir}})
	if a, _ := activityOf(&first.Snapshot); a != (snapshot.Activity{}) {
		t.Errorf("first backup: %+v", a)
	}
	encrypt(t, file(dir, 1), "")
	encrypt(t, file(dir, 2), ".x")
	os.Rename(file(dir, 3), file(dir, 4)) // both: one gone, one rewritten by what is known
	second := r.backup(t, Options{Paths: []string{dir}})
	want := snapshot.Activity{New: 1, Changed: 2, Unchanged: 46, Removed: 2, Rewritten: 2, Novel: 1, Dense: 2}
	if a, _ := activityOf(&second.Snapshot); a != want {
		t.Errorf("second backup: %+v, want %+v", a, want)
	}
}

func TestJudgesASample(t *testing.T) {
	r, dir := newFakeRepo(t), t.TempDir()
	r.backup(t, Options{Paths: []string{dir}, Dataset: "many"})
	for i := range 3000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "%d", i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	res := r.backup(t, Options{Paths: []string{dir}, Dataset: "many"})
	a, _ := activityOf(&res.Snapshot)
	if a.Novel < 2900 || a.Novel > 3100 {
		t.Errorf("%d novel files of 3000", a.Novel)
	}
}

// TestInterruptedActivity: what an interrupted run had judged counts in the run that finds it in the partial.
func TestInterruptedActivity(t *testing.T) {
	r, dir := newFakeRepo(t), t.TempDir()
	for i := range 60 {
		writeText(t, file(dir, i), i, 1)
	}
	r.backup(t, Options{Paths: []string{dir}})
	r.backup(t, Options{Paths: []string{dir}})
	for i := range 60 {
		encrypt(t, file(dir, i), "")
	}
	// What a run leaves that has read all but the last directory, and is killed then.
	whole := r.backup(t, Options{Paths: []string{dir}})
	last := &r.state.Snapshots[len(r.state.Snapshots)-1]
	if last.ID != whole.Snapshot.ID {
		t.Fatal("another snapshot is the last")
	}
	last.Partial, last.Tags = true, nil
	res := r.backup(t, Options{Paths: []string{dir}})
	// Read again or not (they are young): the store knows what the interrupted run has put.
	if a, _ := activityOf(&res.Snapshot); a.Dense != 60 || len(res.Unusual) == 0 {
		t.Errorf("%+v, %v", a, res.Unusual)
	}
}
