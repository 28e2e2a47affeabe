package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// releaseModule is a large source tree of which every release can be fetched as a Go module.
const releaseModule = "k8s.io/kubernetes"

var releaseVersions = []string{"v1.25.0", "v1.26.0", "v1.27.0", "v1.28.0", "v1.29.0", "v1.30.0", "v1.31.0", "v1.32.0"}

// fetchReleases gives the directories of eight successive releases of a large program: those in $SNAPFS_TEST_RELEASES, or modules. It skips the
// test where they cannot be had.
func fetchReleases(t *testing.T) (dirs []string) {
	if dir := os.Getenv("SNAPFS_TEST_RELEASES"); dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) < len(releaseVersions) {
			t.Fatalf("SNAPFS_TEST_RELEASES: %d directories in %s, want %d: %v", len(entries), dir, len(releaseVersions), err)
		}
		for _, e := range entries[:len(releaseVersions)] {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
		return dirs
	}
	cache := t.TempDir()
	for _, version := range releaseVersions {
		cmd := exec.Command("go", "mod", "download", "-json", releaseModule+"@"+version)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "GOMODCACHE="+cache, "GOFLAGS=-modcacherw", "GOWORK=off")
		out, err := cmd.Output()
		var module struct{ Dir, Error string }
		if decoded := json.Unmarshal(out, &module); err != nil || decoded != nil || module.Dir == "" {
			t.Skipf("%s %s cannot be fetched: %v %s", releaseModule, version, err, module.Error)
		}
		dirs = append(dirs, module.Dir)
	}
	return dirs
}

// releases are archived in a full set, six incremental ones and a differential, by a store that is lost then.
type releases struct {
	t       *testing.T
	out     string
	scratch string // a file system of its own if root runs the test; or ""
	ids     []string
	sets    []string
	sources []string
}

const releasePassword = "SNAPFS_PASSWORD=correct horse battery staple"

func archiveReleases(t *testing.T) *releases {
	w := worldAt(t, t.TempDir())
	w.env = append(w.env, releasePassword)
	w.do(0, "init")
	r := &releases{t: t, out: w.mkdir("out")}
	sums := w.mkdir("sums")
	w.mkdir("src")
	for i, dir := range fetchReleases(t) {
		// What is the same in two releases stays untouched, as a checkout leaves it.
		sh(t, w.dir, `rsync -rlc --delete --chmod=u+w "$1/" src/`, dir)
		backup := w.backup(0, "src", w.path("src"))
		r.ids = append(r.ids, backup.Snapshot)
		source := w.path(fmt.Sprintf("source%d", i))
		sh(t, w.dir, `[ "$2" = 0 ] || link="--link-dest=$3"; rsync -aHAX ${link:-} src/ "$1/"`, source, fmt.Sprint(i), w.path(fmt.Sprintf("source%d", i-1)))
		r.sources = append(r.sources, source)
		level := "incremental"
		switch i {
		case 0:
			level = "full"
		case len(releaseVersions) - 1:
			level = "differential"
		}
		name := fmt.Sprintf("release%d-%s", i, level)
		begin := time.Now()
		j := w.start("archive", "create", backup.Snapshot, "--to", r.out, "--set", name, "--level", level, "--volume-size", "6M",
			"--parity-volumes", "2", "--parity-dir", sums, "--json")
		memory := watchMemory(j)
		out := j.want(0).stdout
		took := time.Since(begin)
		var set struct {
			Volumes int
			Stored  int64 `json:"bytes_stored"`
			Bytes   int64
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &set); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d entries, %d new, %d changed, %.1f MiB read; set of %.1f MiB in %d volumes, in %.1f s, peak memory %d MiB", name, backup.Entries, backup.New, backup.Changed,
			float64(backup.Read)/(1<<20), float64(set.Stored)/(1<<20), set.Volumes, took.Seconds(), memory>>20)
		r.sets = append(r.sets, name)
	}
	t.Logf("the store had %s", strings.TrimSpace(sh(t, w.dir, `du -sm store | cut -f 1`))+" MiB")
	if err := os.RemoveAll(w.store); err != nil {
		t.Fatal(err)
	}
	return r
}

// needs are the volumes that a snapshot needs, without parity volumes, sets newest first as pipes want them.
func (r *releases) needs(i int) (volumes []string) {
	sets := slices.Clone(r.sets[:i+1])
	slices.Reverse(sets)
	if i == len(r.sets)-1 {
		sets = []string{r.sets[i], r.sets[0]}
	}
	for _, set := range sets {
		list, err := filepath.Glob(filepath.Join(r.out, set+"-[0-9]*.snapfs"))
		if err != nil || len(list) == 0 {
			r.t.Fatalf("volumes of %s: %v", set, err)
		}
		volumes = append(volumes, list...)
	}
	return volumes
}

// restore restores every snapshot where nothing is but the volumes and the password, and has other programs compare it with what was saved.
func (r *releases) restore(t *testing.T, how string, command func(w *world, id, to string, i int) *exec.Cmd) {
	took, memory, scratch := time.Duration(0), int64(0), int64(0)
	for i, id := range r.ids {
		bare := worldAt(t, t.TempDir())
		bare.env = append(slices.DeleteFunc(bare.env, func(v string) bool { return strings.HasPrefix(v, "SNAPFS_") || strings.HasPrefix(v, "TMPDIR=") }),
			releasePassword, "TMPDIR="+r.scratch)
		to := bare.path("restored")
		cmd := command(bare, id, to, i)
		cmd.Env, cmd.Dir = bare.env, bare.dir
		j := &job{Cmd: cmd, t: t, done: make(chan struct{})}
		j.Stdout, j.Stderr = &j.stdout, &j.stderr
		begin := time.Now()
		if err := j.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { j.Cmd.Wait(); close(j.done) }()
		for !j.ended() {
			memory = max(memory, highWater(j.Process.Pid))
			scratch = max(scratch, used(t, r.scratch))
			time.Sleep(5 * time.Millisecond)
		}
		took += time.Since(begin)
		j.want(0)
		const sums = `cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum`
		differ(t, how+" "+r.sets[i], sh(t, bare.dir, sums, r.sources[i]), sh(t, bare.dir, sums, to))
		if other := sh(t, bare.dir, `rsync -aHAXnc --delete --itemize-changes "$1/" "$2/"`, r.sources[i], to); other != "" {
			t.Errorf("%s %s: rsync would change\n%s", how, r.sets[i], tail(other))
		}
		sh(t, bare.dir, `rm -rf "$1"`, to)
	}
	t.Logf("%s: %d snapshots in %.1f s, peak memory %d MiB, scratch %.1f MiB", how, len(r.ids), took.Seconds(), memory>>20, float64(scratch)/(1<<20))
}

// used is how many bytes of a file system are in use.
func used(t *testing.T, dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Blocks-s.Bfree) * s.Bsize
}

// TestArchiveReleases is the proof on real changes: every one of eight releases of a large program comes back from bare volumes with nothing
// but the password: from the directory, through pipes, and after two volumes of each set were lost.
func TestArchiveReleases(t *testing.T) {
	if os.Getenv("SNAPFS_TEST_LONG") == "" {
		t.Skip("only with SNAPFS_TEST_LONG: it fetches 150 MB and writes 2 GB")
	}
	needRoot(t) // scratch is measured on a file system of its own
	needTools(t, "rsync")
	r := archiveReleases(t)
	r.scratch = filepath.Join(t.TempDir(), "scratch")
	attachTmpfs(t, r.scratch, "2G")
	fromDirectory := func(w *world, id, to string, _ int) *exec.Cmd {
		return exec.Command(snapfs, "archive", "restore", id, "--from", r.out, "--to", to)
	}
	r.restore(t, "from the directory", fromDirectory)
	r.restore(t, "through pipes", func(w *world, id, to string, i int) *exec.Cmd {
		args := append([]string{"-c", `snapfs=$1 id=$2 to=$3; shift 3; exec "$snapfs" archive restore "$id" --from - --to "$to" < <(exec cat "$@")`,
			"bash", snapfs, id, to}, r.needs(i)...)
		return exec.Command("bash", args...)
	})
	for _, set := range r.sets {
		all, err := filepath.Glob(filepath.Join(r.out, set+"-*.snapfs"))
		if err != nil || len(all) < 3 {
			t.Fatalf("set %s: %v %v", set, all, err)
		}
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, path := range all[:2] {
			t.Logf("lost: %s", filepath.Base(path))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.restore(t, "with two volumes of each set lost", fromDirectory)
}
