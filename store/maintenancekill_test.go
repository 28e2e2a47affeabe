package store

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"snapfs/integration/moments"
)

// Environment of a process that does maintenance for a test.
const (
	envWorkStore = "SNAPFS_TEST_WORK_STORE"
	envWork      = "SNAPFS_TEST_WORK" // prune, upkeep or checkpoint
)

// maintenance is what may be killed.
var maintenance = map[string]func(*Store) error{
	"prune":      func(st *Store) error { _, err := st.Prune(context.Background(), PruneOptions{}, nil); return err },
	"upkeep":     func(st *Store) error { _, err := st.Upkeep(context.Background()); return err },
	"checkpoint": func(st *Store) error { _, err := tryCompact(st); return err },
}

// workPhases are those that each can be killed in.
var workPhases = map[string][]string{
	"prune":      {moments.WorkLooks, moments.WorkWrites, moments.WorkFacts, moments.WorkRemoves, moments.WorkIsSealed},
	"upkeep":     {moments.WorkLooks, moments.WorkWrites, moments.WorkRemoves, moments.WorkIsSealed},
	"checkpoint": {moments.WorkLooks, moments.WorkWrites, moments.WorkBoth, moments.WorkIsSealed},
}

// TestMaintenanceProcess is no test: it does the work of envWork, and says so before and after.
func TestMaintenanceProcess(t *testing.T) {
	dir := os.Getenv(envWorkStore)
	if dir == "" {
		t.Skip("only run by other tests")
	}
	st := openTrees(t, dir)
	os.Stdout.WriteString("ready\n")
	must(t, maintenance[os.Getenv(envWork)](st))
	closeStore(t, st)
	os.Stdout.WriteString("done\n")
}

// small is a store with many small volumes and journals, some of which killed processes left, all of which nobody has merged; and
// what must stay.
func small(t testing.TB) (dir string, kept map[ID]tree) {
	dir = newStore(t)
	kept = map[ID]tree{}
	for n := range uint64(14) {
		life, end := context.WithCancel(t.Context())
		st, err := Open(life, dir, Options{Unlock: unlockTest, Job: "test", References: treeReferences})
		must(t, err)
		tr := manyFiles(30+n, 3, 700)
		kept[tr.mustWrite(t, st).ID] = tr
		end() // an interrupted job merges nothing when it closes
		if n%5 == 3 {
			crash(t, st)
		} else {
			closeStore(t, st)
		}
	}
	return dir, kept
}

// TestKillMaintenance kills prune, the merging of small volumes and the writing of a checkpoint: all that is kept is there afterwards,
// whole, with the index that is there and with a new one, no head is unknown, and doing it again ends the work.
func TestKillMaintenance(t *testing.T) {
	for work, build := range map[string]func(testing.TB) (string, map[ID]tree){"prune": wasteful, "upkeep": small, "checkpoint": small} {
		t.Run(work, func(t *testing.T) {
			from, kept := build(t)
			st := openTrees(t, from)
			head := engineOf(st).fold.last
			closeStore(t, st)
			p := &moments.Plan{Goal: 1, Most: 8, Phases: workPhases[work], Aims: map[string]moments.Moment{
				moments.WorkLooks:  {}, // at once
				moments.WorkWrites: {Event: unix.IN_CREATE, Nth: 1},
			}}
			switch {
			case os.Getenv("SNAPFS_TEST_LONG") != "":
				p.Goal, p.Most, p.Least = 200, 1200, 200
			case testing.Short():
				p.Most, p.Phases = 4, nil
			}
			dir := copyStore(t, from)
			p.Run, _ = worked(t, work, dir, nil)
			removeStore(t, dir)
			for {
				m, more := p.Next()
				if !more {
					break
				}
				dir := copyStore(t, from)
				before, err := moments.Look(dir)
				must(t, err)
				_, ended := worked(t, work, dir, &m)
				after, err := moments.Look(dir)
				must(t, err)
				if ended {
					p.Late(m)
				} else {
					p.Hit(m, after.Since(before).OfMaintenance())
				}
				checkKept(t, dir, kept, "killed")
				st := openTrees(t, dir)
				checkHead(t, st, head, "killed")
				must(t, maintenance[work](st))
				closeStore(t, st)
				checkKept(t, dir, kept, "killed, then done again")
				if t.Failed() {
					t.Fatalf("killed %v", m)
				}
				removeStore(t, dir)
			}
			t.Log(p)
			if lacks := p.Lacks(); lacks != "" {
				t.Error(lacks)
			}
		})
	}
}

// removeStore makes room: a long test makes hundreds of stores.
func removeStore(t *testing.T, dir string) {
	unguardAll(dir)
	must(t, os.RemoveAll(dir))
}

// worked does maintenance in another process, which is killed at a moment if one is given. It returns how long the process worked,
// and whether it came to its end.
func worked(t *testing.T, work, dir string, m *moments.Moment) (took time.Duration, ended bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestMaintenanceProcess$")
	cmd.Env = append(os.Environ(), envWorkStore+"="+dir, envWork+"="+work)
	out, err := cmd.StdoutPipe()
	must(t, err)
	watch := &moments.Watch{}
	if m != nil {
		watch, err = moments.NewWatch(dir, *m)
		must(t, err)
		defer watch.Close()
	}
	must(t, cmd.Start())
	ready, over := make(chan struct{}), make(chan struct{})
	var all strings.Builder // read by others when it is over
	go func() {
		defer close(over)
		isReady := sync.OnceFunc(func() { close(ready) })
		defer isReady()
		for buf := make([]byte, 4096); ; {
			n, err := out.Read(buf)
			if all.Write(buf[:n]); strings.HasPrefix(all.String(), "ready") {
				isReady()
			}
			if err != nil {
				return
			}
		}
	}()
	<-ready
	begun := time.Now()
	if m != nil {
		watch.Await(*m, func() bool {
			select {
			case <-over:
				return true
			default:
				return false
			}
		})
		_ = cmd.Process.Kill()
	}
	<-over
	_ = cmd.Wait()
	text := all.String()
	ended = strings.Contains(text, "done")
	if !strings.HasPrefix(text, "ready") || m == nil && !ended {
		t.Fatalf("the other process says %q", text)
	}
	return time.Since(begun), ended
}
