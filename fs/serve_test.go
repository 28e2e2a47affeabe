package fs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/store"
)

// The tests look at mounts that another process serves, as everybody does: this binary run again. It takes a job from
// the environment and commands on stdin, and answers each with a line.
const serveEnv = "SNAPFS_FS_TEST_SERVE"

// job says what a serving process shows.
type job struct {
	Dir       string // mountpoint
	Store     string // directory to pass for the store's
	Snapshots []jobSnapshot
	Options   Options
	Damage    []string // paths in the first snapshot
}

type jobSnapshot struct {
	Dataset, Name, Source string
	Start                 time.Time
}

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(serveEnv) != "":
		os.Exit(exitCode(serveJob(os.Getenv(serveEnv))))
	case os.Getenv(storeEnv) != "":
		os.Exit(exitCode(serveStore(os.Getenv(storeEnv))))
	}
	os.Exit(m.Run())
}

func exitCode(err error) int {
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	return 0
}

func serveJob(text string) error {
	ctx := context.Background()
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	mem := newMemStore(j.Store)
	var first store.ID
	for i, s := range j.Snapshots {
		snap, err := mem.importDir(ctx, s.Dataset, s.Name, s.Source, s.Start)
		if err != nil {
			return err
		}
		if i == 0 {
			first = snap.ID
		}
	}
	for _, path := range j.Damage {
		if err := mem.drop(ctx, first, path); err != nil {
			return err
		}
	}
	j.Options.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	m, err := mount(ctx, mem, j.Dir, j.Options)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("ready")
	go func() {
		<-stop
		m.Close()
	}()
	go obey(ctx, m, mem)
	return m.Wait()
}

// obey runs commands of the test.
func obey(ctx context.Context, m *Mount, mem *memStore) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.Fields(in.Text())
		var err error
		switch f[0] {
		case "add": // dataset name source
			_, err = mem.importDir(ctx, f[1], f[2], f[3], time.Now())
		case "forget":
			var slot uint32
			fmt.Sscan(f[1], &slot)
			mem.change(slot, func(s *store.Snapshot) { s.Forgotten = true })
		case "refresh":
			err = m.Refresh(ctx)
		case "pins":
			err = fmt.Errorf("%d", len(mem.pinned))
		case "refs":
			var slot uint32
			fmt.Sscan(f[1], &slot)
			err = fmt.Errorf("%d", m.core.view.Load().bySlot[slot].refs.Load())
		}
		fmt.Println("done:", err)
	}
}

// serving is a mount served by another process.
type serving struct {
	t     testing.TB
	dir   string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader

	mu  sync.Mutex
	log bytes.Buffer
}

func (s *serving) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *serving) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// serve mounts in another process, and unmounts when the test ends.
func serve(t testing.TB, j job, prefix ...string) *serving {
	t.Helper()
	s, err := tryServe(t, j, prefix...)
	if err != nil {
		t.Fatalf("serve: %v\n%s", err, s.logged())
	}
	return s
}

func tryServe(t testing.TB, j job, prefix ...string) (*serving, error) {
	t.Helper()
	needFUSE(t)
	if j.Dir == "" {
		j.Dir = t.TempDir()
	}
	if j.Store == "" {
		j.Store = t.TempDir()
	}
	for i := range j.Snapshots {
		if s := &j.Snapshots[i]; s.Start.IsZero() {
			s.Start = testStart.Add(time.Duration(i) * time.Hour)
		}
	}
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	args := prefix
	if len(args) == 0 {
		args = []string{os.Args[0]}
	}
	s := &serving{t: t, dir: j.Dir, cmd: exec.Command(args[0], args[1:]...)}
	s.cmd.Env = append(os.Environ(), serveEnv+"="+string(text))
	s.cmd.Stderr = s
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	line, _ := s.out.ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		return s, errors.New(strings.TrimSpace(line))
	}
	return s, nil
}

// end leaves neither mount nor process behind.
func (s *serving) end() {
	_ = unix.Unmount(s.dir, unix.MNT_DETACH)
	s.stdin.Close()
	done := time.AfterFunc(time.Minute, func() { s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	done.Stop()
}

// ask has the server obey a command and returns its answer.
func (s *serving) ask(command string) string {
	s.t.Helper()
	fmt.Fprintln(s.stdin, command)
	line, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", command, err, s.logged())
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "done: ")
}

func (s *serving) do(command string) {
	s.t.Helper()
	if got := s.ask(command); got != "<nil>" {
		s.t.Fatalf("%s: %s", command, got)
	}
}

func (s *serving) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func needFUSE(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("no /dev/fuse here")
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			t.Skip("neither root nor fusermount3")
		}
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(name + " is not installed")
	}
}

// run runs a program and returns its output.
func run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
