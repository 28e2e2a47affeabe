package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// object decodes the last line of JSON output.
func object(t *testing.T, out string) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var o map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &o); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return o
}

// wantFields checks that an object has the fields of CONTRACT.md.
func wantFields(t *testing.T, o map[string]any, fields string) {
	t.Helper()
	for _, f := range strings.Fields(fields) {
		if _, ok := o[f]; !ok {
			t.Errorf("no field %q in %v", f, o)
		}
	}
}

// twoSnapshots makes a store with two snapshots of a small tree as dataset d, and returns the tree.
func twoSnapshots(t *testing.T) (tree string) {
	t.Helper()
	clearStore(t)
	tree = filepath.Join(t.TempDir(), "tree")
	writeFile(t, filepath.Join(tree, "kept"), "kept")
	writeFile(t, filepath.Join(tree, "sub", "changed"), "before")
	writeFile(t, filepath.Join(tree, "sub", "removed"), "gone soon")
	succeed(t, "backup", tree, "--dataset", "d", "--tag", "first", "--time", "2026-11-20T10:00:00Z")
	writeFile(t, filepath.Join(tree, "sub", "changed"), "after it")
	writeFile(t, filepath.Join(tree, "added\n"), "new")
	if err := os.Remove(filepath.Join(tree, "sub", "removed")); err != nil {
		t.Fatal(err)
	}
	succeed(t, "backup", tree, "--dataset", "d", "--time", "2026-11-21T10:00:00Z")
	return tree
}

func TestBackupOutput(t *testing.T) {
	clearStore(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "file"), "content")
	summary := object(t, succeed(t, "backup", file, "--dataset", "d", "--json"))
	wantFields(t, summary, "event snapshot name dataset entries new changed unchanged removed unstable bytes bytes_read bytes_stored seconds errors")
	if summary["event"] != "summary" || summary["dataset"] != "d" || summary["new"] != 1.0 || summary["bytes"] != 7.0 || summary["errors"] != 0.0 {
		t.Errorf("summary: %v", summary)
	}
	id := succeed(t, "--quiet", "backup", file, "--dataset", "d")
	if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).MatchString(id) {
		t.Errorf("--quiet prints %q", id)
	}
	skipped := object(t, succeed(t, "--json", "backup", file, "--dataset", "d", "--skip-unchanged"))
	if name, ok := skipped["name"].(string); !ok || skipped["skipped"] != true || skipped["snapshot"] != strings.TrimSpace(id) || succeed(t, "ls", "d@"+name) != "file\n" {
		t.Errorf("skipped: %v, the snapshot there is: %s", skipped, id)
	}
	if again := succeed(t, "--quiet", "backup", file, "--dataset", "d", "--skip-unchanged"); again != id {
		t.Errorf("an unchanged backup that is skipped prints %q, not the last ID %q", again, id)
	}
	if out := succeed(t, "backup", file, "--dataset", "d", "--dry-run", "--json"); object(t, out)["snapshot"] != nil {
		t.Errorf("--dry-run: %s", out)
	}
	if n := strings.Count(succeed(t, "snapshots", "--dataset", "d"), "d@"); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	refuse(t, exitFailed, "another host or other paths", "--new-source", "backup", t.TempDir(), "--dataset", "d")
}

func TestIncompleteBackup(t *testing.T) {
	clearStore(t)
	file := writeFile(t, filepath.Join(t.TempDir(), "file"), "content")
	missing := filepath.Join(t.TempDir(), "missing")
	r := runLine(t, "", "backup", file, missing, "--dataset", "d", "--json")
	if r.code != exitIncomplete || !strings.Contains(r.stderr, "1 path could not be saved") {
		t.Fatalf("%+v", r)
	}
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if problem := object(t, lines[0]); problem["event"] != "error" || problem["path"] != missing || problem["error"] == "" {
		t.Errorf("error event: %v", problem)
	}
	if summary := object(t, r.stdout); summary["errors"] != 1.0 || summary["snapshot"] == nil {
		t.Errorf("summary: %v", summary)
	}
	if r := runLine(t, "", "cat", "d:"+file); r.code != exitDone || r.stdout != "content" || !strings.Contains(r.stderr, "1 path could not be read when it was taken") {
		t.Errorf("using it: %+v", r)
	}
	r = runLine(t, "", "backup", missing, "--quiet")
	if r.code != exitFailed || !strings.Contains(r.stderr, "nothing could be saved") || r.stdout != "" {
		t.Errorf("nothing there: %+v", r)
	}
}

func TestFilesFrom(t *testing.T) {
	clearStore(t)
	dir := t.TempDir()
	a, b := writeFile(t, filepath.Join(dir, "a"), "1"), writeFile(t, filepath.Join(dir, "sub", "b\n"), "2")
	writeFile(t, filepath.Join(dir, "c"), "3")
	if r := runLine(t, a+"\x00"+b+"\x00", "backup", dir, "--dataset", "below", "--files-from0", "-"); r.code != exitDone {
		t.Fatalf("%+v", r)
	}
	if got := succeed(t, "ls", "-R0", "below"); got != "/a\x00/sub\x00/sub/b\n\x00" {
		t.Errorf("of a PATH: %q", got)
	}
	list := writeFile(t, filepath.Join(t.TempDir(), "list"), a+"\n\n")
	succeed(t, "backup", "--files-from", list, "--dataset", "alone", "--quiet")
	if got := succeed(t, "ls", "-R", "alone"); got != "/a\n" {
		t.Errorf("without PATH: %q", got)
	}
	refuse(t, exitUsage, "lists of files are empty", "", "backup", "--files-from", os.DevNull)
	refuse(t, exitFailed, "list of files: open ", "", "backup", "--files-from", filepath.Join(dir, "missing"))
}

func TestHooks(t *testing.T) {
	clearStore(t)
	dir := t.TempDir()
	t.Setenv("SNAPFS_PASSWORD", "must not reach a child")
	file, log := writeFile(t, filepath.Join(dir, "file"), "x"), filepath.Join(dir, "log")
	id := succeed(t, "backup", file, "--dataset", "d", "--quiet",
		"--pre", `echo "pre $SNAPFS_DATASET $SNAPFS_PASSWORD" > `+log, "--post", `echo "post $SNAPFS_RESULT $SNAPFS_SNAPSHOT" >> `+log)
	if data, _ := os.ReadFile(log); string(data) != "pre d \npost ok "+id {
		t.Errorf("hooks wrote %q", data)
	}
	refuse(t, exitFailed, "--pre command: exit status 3", "", "backup", file, "--dataset", "d", "--pre", "exit 3", "--post", "rm "+log)
	if _, err := os.Stat(log); err != nil {
		t.Errorf("--post was run after a failed --pre: %v", err)
	}
	r := runLine(t, "", "backup", file, "--dataset", "d", "--quiet", "--post", "exit 4")
	if r.code != exitFailed || len(r.stdout) != 65 || !strings.Contains(r.stderr, "--post command: exit status 4") {
		t.Errorf("failing --post: %+v", r)
	}
	runLine(t, "", "backup", filepath.Join(dir, "missing"), "--dataset", "e", "--post", `echo "$SNAPFS_RESULT" > `+log)
	if data, _ := os.ReadFile(log); string(data) != "failed\n" {
		t.Errorf("--post after a failed backup wrote %q", data)
	}
	if n := strings.Count(succeed(t, "snapshots"), "d@"); n != 2 {
		t.Errorf("%d snapshots", n)
	}
}

func TestStreams(t *testing.T) {
	clearStore(t)
	if r := runLine(t, "from stdin", "backup", "--stdin", "in.txt", "--quiet"); r.code != exitDone {
		t.Fatalf("%+v", r)
	}
	if got := succeed(t, "cat", "in.txt:in.txt"); got != "from stdin" {
		t.Errorf("stdin: %q", got)
	}
	summary := object(t, succeed(t, "backup", "--command", "echo a | tr a b", "--as", "cmd", "--json"))
	if summary["command_status"] != 0.0 || succeed(t, "cat", "cmd:/cmd") != "b\n" {
		t.Errorf("command: %v", summary)
	}
	succeed(t, "backup", "--as", "argv", "--quiet", "--", "printf", "%s-%s", "--json", "y")
	if got := succeed(t, "cat", "argv:/argv"); got != "--json-y" {
		t.Errorf("argv: %q", got)
	}
	r := runLine(t, "", "backup", "--command", "echo partial; false | cat; exit 7", "--as", "bad", "--json")
	summary = object(t, r.stdout)
	if r.code != exitFailed || !strings.Contains(r.stderr, "status 7") || summary["command_status"] != 7.0 || summary["snapshot"] != nil {
		t.Errorf("failing command: %+v", r)
	}
	refuse(t, exitFailed, "status 1", "", "backup", "--command", "false | cat", "--as", "bad")
	refuse(t, exitFailed, "starting the command", "", "backup", "--as", "bad", "--", "/no/such/program")
	refuse(t, exitUsage, "no file name", "", "backup", "--command", "echo", "--dataset", "long", "--as", strings.Repeat("n", 256))
	succeed(t, "backup", "--command", "echo", "--dataset", "long", "--as", strings.Repeat("n", 255), "--quiet")
	refuse(t, exitFailed, "stream is empty", "--allow-empty", "backup", "--command", "true", "--as", "bad")
	refuse(t, exitFailed, "no such", "", "ls", "bad")
	succeed(t, "backup", "--command", "true", "--as", "empty", "--allow-empty", "--quiet")
	if got := succeed(t, "cat", "empty:empty"); got != "" {
		t.Errorf("empty: %q", got)
	}
}

func TestSnapshotsAndTags(t *testing.T) {
	twoSnapshots(t)
	var list []map[string]any
	if err := json.Unmarshal([]byte(succeed(t, "snapshots", "--json")), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	wantFields(t, list[0], "id name dataset host user time parent paths entries bytes bytes_stored tags errors held_until")
	if list[0]["time"] != "2026-11-20T10:00:00Z" || list[0]["parent"] != nil || list[1]["parent"] != list[0]["id"] {
		t.Errorf("snapshots: %v", list)
	}
	if n := strings.Count(succeed(t, "snapshots", "--tag", "first"), "d@"); n != 1 {
		t.Errorf("%d snapshots with the tag", n)
	}
	if out := succeed(t, "tag", "d", "--add", "b", "--add", "a"); out != "a\nb\n" {
		t.Errorf("tags: %q", out)
	}
	if out := succeed(t, "tag", "latest", "--remove", "a", "--json"); !slices.Equal(object(t, out)["tags"].([]any), []any{"b"}) {
		t.Errorf("tags: %s", out)
	}
	succeed(t, "dataset", "rename", "d", "e")
	if out := succeed(t, "dataset", "list"); !strings.Contains(out, "e ") || !strings.Contains(out, "2") {
		t.Errorf("datasets: %q", out)
	}
	refuse(t, exitFailed, "no such", "", "ls", "d@2026-11-21")
}

func TestLooking(t *testing.T) {
	tree := twoSnapshots(t)
	if got := succeed(t, "ls", "d"); got != "added\n\nkept\nsub\n" {
		t.Errorf("ls: %q", got)
	}
	if got := succeed(t, "ls", "-R0", "d:sub"); got != "/sub/changed\x00" {
		t.Errorf("ls -R0: %q", got)
	}
	if got := succeed(t, "ls", "-l", "d:kept"); !strings.HasPrefix(got, "-rw-------   1 ") || !strings.HasSuffix(got, " kept\n") {
		t.Errorf("ls -l: %q", got)
	}
	long := object(t, succeed(t, "ls", "-l", "--json", "d:/kept"))
	wantFields(t, long, "snapshot path type mode uid gid size mtime btime flags xattrs")
	if long["mode"] != "0600" || long["type"] != "file" || long["path"] != "/kept" || long["size"] != 4.0 {
		t.Errorf("ls -l --json: %v", long)
	}
	if got := succeed(t, "cat", "d@2026-11-20T12:00:00Z:/sub/changed"); got != "before" {
		t.Errorf("cat: %q", got)
	}
	refuse(t, exitFailed, "not a regular file but a dir", "", "cat", "d:sub")
	refuse(t, exitFailed, "/sub/removed: file does not exist", "snapfs versions", "cat", "d:sub/removed")
	refuse(t, exitFailed, "no snapshot is that old", "", "cat", "d@2026-11-19:/kept")

	du := object(t, succeed(t, "du", "d", "--json"))
	if wantFields(t, du, "path entries bytes"); du["entries"] != 4.0 || du["bytes"] != 15.0 {
		t.Errorf("du: %v", du)
	}
	if got := succeed(t, "diff", "d@2026-11-20", "d"); got != "+ /added\n\n  /sub" && !strings.Contains(got, "M /sub/changed (content") || !strings.Contains(got, "- /sub/removed\n") {
		t.Errorf("diff: %q", got)
	}
	if got := object(t, succeed(t, "diff", "d@2026-11-20", "d", "--json")); got["change"] != "removed" || got["path"] != "/sub/removed" {
		t.Errorf("diff --json ends with %v", got)
	}
	found := strings.Split(strings.TrimSpace(succeed(t, "find", "chang*")), "\n")
	if len(found) != 2 || succeed(t, "cat", found[0]) != "before" || succeed(t, "cat", found[1]) != "after it" {
		t.Errorf("find: %q", found)
	}
	wantFields(t, object(t, succeed(t, "find", "--json", "--regex", "^/kept$", "--snapshot", "d")), "snapshot path type mode uid gid size mtime")
	if got := succeed(t, "find", "nothing like this"); got != "" {
		t.Errorf("find: %q", got)
	}
	versions := strings.Split(strings.TrimSpace(succeed(t, "versions", "--json", filepath.Join(tree, "sub", "changed"))), "\n")
	if len(versions) != 2 {
		t.Fatalf("versions: %q", versions)
	}
	wantFields(t, object(t, versions[0]), "path size mtime snapshots")
	if got := succeed(t, "versions", "-0", "d:kept"); strings.Count(got, "\x00") != 1 || succeed(t, "cat", strings.TrimSuffix(got, "\x00")) != "kept" {
		t.Errorf("versions -0: %q", got)
	}
	for _, path := range []string{"/nowhere/at/all", filepath.Join(tree, "nowhere")} { // no results are no failure
		if r := runLine(t, "", "versions", path); r.code != exitDone || r.stdout != "" || strings.Contains(r.stderr, "no dataset covers") != (path == "/nowhere/at/all") {
			t.Errorf("versions %s: %+v", path, r)
		}
	}
	refuse(t, exitFailed, "dataset nowhere: not found", "", "versions", "nowhere:x")
	for _, args := range [][]string{
		{"find", "x", "--snapshot", "d:sub"}, {"mount", t.TempDir(), "--snapshot", "d:sub"}, {"tag", "d:sub"}, {"hold", "d:sub", "--forever"},
		{"archive", "create", "d:sub", "--to", t.TempDir()}, {"archive", "explain", "d:sub"},
	} {
		refuse(t, exitUsage, "d:sub: a snapshot is wanted here, without a path", "give d alone", args...)
	}
	succeed(t, "find", "kept", "--snapshot", "d:")
}

// TestLookingProgress: a search may find nothing for long, a list may go to a file.
func TestLookingProgress(t *testing.T) {
	twoSnapshots(t)
	for _, test := range []struct{ line, want string }{
		{"find nosuchname --verbose", "1 of 2 snapshots, "},
		{"find nosuchname --no-progress", ""},
		{"find nosuchname --quiet", ""},
		{"find nosuchname --json", ""},
		{"versions d:sub", "1 of 2 snapshots of d"},
		{"versions d:sub --no-progress", ""},
		{"diff d@2026-11-20 d", "1 difference  /"},
		{"diff d@2026-11-20 d --quiet", ""},
		{"ls -R d", "1 entry  /"},
		{"ls -R d --json", ""},
	} {
		var stdout, stderr strings.Builder
		p := newProgram(strings.NewReader(""), &stdout, &stderr)
		now := time.Now()
		p.now = func() time.Time {
			now = now.Add(time.Minute)
			return now
		}
		p.err.terminal, p.err.width = true, 80
		ctx := context.Background()
		if code := p.finish(ctx, p.execute(ctx, append([]string{"snapfs"}, strings.Fields(test.line)...))); code != exitDone {
			t.Errorf("%s: exit code %d, %q", test.line, code, stderr.String())
		}
		if shown := stderr.String(); test.want == "" && shown != "" || !strings.Contains(shown, test.want) || test.want != "" && !strings.HasSuffix(shown, "\r\x1b[K") {
			t.Errorf("%s: shown %q", test.line, shown)
		}
	}
}

func TestRestoreAndDump(t *testing.T) {
	tree := twoSnapshots(t)
	to := filepath.Join(t.TempDir(), "to")
	refuse(t, exitUsage, `: pattern "[": bracket is not closed`, "", "restore", "d", "--to", to, "--include", "[")
	if r := runLine(t, "", "restore", "d", "--to", to, "--exclude", "["); strings.Contains(r.stderr, "contradict") {
		t.Errorf("a malformed pattern: %s", r.stderr)
	}
	summary := object(t, succeed(t, "restore", "d", "--to", to, "--json"))
	wantFields(t, summary, "event entries written equal deleted bytes_written skipped_metadata errors seconds")
	if summary["errors"] != 0.0 || summary["written"] != 4.0 {
		t.Errorf("summary: %v", summary)
	}
	for _, name := range []string{"kept", "sub/changed", "added\n"} {
		want, _ := os.ReadFile(filepath.Join(tree, name))
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != string(want) {
			t.Errorf("%q restored as %q, %v", name, got, err)
		}
	}
	writeFile(t, filepath.Join(to, "extra"), "x")
	if out := succeed(t, "restore", "d", "--to", to, "--delete", "--dry-run"); !strings.Contains(out, "delete     ") || !strings.Contains(out, "nothing was written") {
		t.Errorf("--dry-run: %q", out)
	}
	succeed(t, "restore", "d", "--to", to, "--delete", "--quiet")
	if _, err := os.Stat(filepath.Join(to, "extra")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("--delete left %v", err)
	}
	refuse(t, exitFailed, "/nowhere: file does not exist", "snapfs versions", "restore", "d:/nowhere", "--to", to)

	var names []string
	for r := tar.NewReader(strings.NewReader(succeed(t, "dump", "d"))); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if !slices.Contains(names, "./sub/changed") && !slices.Contains(names, "sub/changed") {
		t.Errorf("tar has %q", names)
	}
}

func TestRebuildAndStats(t *testing.T) {
	twoSnapshots(t)
	dir := os.Getenv("SNAPFS_STORE")
	before := object(t, succeed(t, "stats", "--json"))
	if before["snapshots"] != 2.0 || before["datasets"] != 1.0 || before["encrypted"] != false {
		t.Errorf("stats: %v", before)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "snapfs.json")); err != nil {
		t.Fatal(err)
	}
	refuse(t, exitNoStore, "no snapfs store there", "", "stats")
	if summary := object(t, succeed(t, "rebuild", "--json")); summary["event"] != "summary" || summary["blobs"] != before["blobs"] {
		t.Errorf("rebuild: %v, before %v", summary, before)
	}
	if got := succeed(t, "cat", "d:/sub/changed"); got != "after it" {
		t.Errorf("after rebuild: %q", got)
	}
}
