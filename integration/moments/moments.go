// Package moments chooses when tests kill a process that works on a store, and says by the files of the store what it was doing
// then. It knows the store from outside only, and no package of snapfs: what it says is true of a released binary as well.
package moments

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Moment is when to kill a process: after the Nth change in a directory of the store, and a while later.
type Moment struct {
	Dir   string // relative to the store; "": volumes
	Event uint32 // inotify events to count; 0: from the start of the process
	Nth   int
	Delay time.Duration
}

func (m Moment) String() string {
	if m.Event == 0 {
		return fmt.Sprintf("%v after the start", m.Delay)
	}
	return fmt.Sprintf("%v after event %#x number %d in %q", m.Delay, m.Event, m.Nth, m.Dir)
}

// Plan chooses moments until every phase it knows of was hit Goal times, or no more are to be tried. Phases that are not listed become known
// by being hit: where they lie in time depends on the machine.
type Plan struct {
	Phases []string          // those that are to be hit
	Aims   map[string]Moment // where to look for a phase as long as it was not hit
	Dirs   []string          // where changes are watched, relative to the store; none: volumes
	Goal   int               // kills in each phase
	Least  int               // kills at all; 0: 3 * Goal
	Most   int               // runs at all, and some more while Lacks says something
	Run    time.Duration     // about what a run takes

	rng   *rand.Rand
	tries int
	late  int
	count map[string]int
	good  map[string][]Moment
}

// patience is how many runs more a plan is given that lacks something.
const patience = 400

// Next is the next moment to try; false when it is enough.
func (p *Plan) Next() (Moment, bool) {
	if p.rng == nil {
		p.rng = rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
		p.count, p.good = map[string]int{}, map[string][]Moment{}
		for _, phase := range p.Phases {
			p.count[phase] = 0
		}
	}
	rarest := ""
	for phase, n := range p.count {
		if n < p.Goal && (rarest == "" || n < p.count[rarest]) {
			rarest = phase
		}
	}
	if p.tries >= p.Most && (p.Lacks() == "" || p.tries >= p.Most+patience) || rarest == "" && p.Killed() >= max(3*p.Goal, p.Least) {
		return Moment{}, false
	}
	p.tries++
	if p.rng.IntN(3) > 0 {
		if good := p.good[rarest]; len(good) > 0 {
			return p.near(good[p.rng.IntN(len(good))]), true
		}
		if aim, found := p.Aims[rarest]; found {
			return aim, true
		}
	}
	return p.any(), true
}

// near is a moment beside one that hit what is wanted.
func (p *Plan) near(m Moment) Moment {
	if m.Delay > 0 || p.rng.IntN(2) == 0 {
		m.Delay = m.Delay*9/10 + p.within(m.Delay/5) + p.within(200*time.Microsecond)
	}
	return m
}

func (p *Plan) any() Moment {
	m := p.anyIn()
	if len(p.Dirs) > 0 {
		m.Dir = p.Dirs[p.rng.IntN(len(p.Dirs))]
	}
	return m
}

func (p *Plan) anyIn() Moment {
	switch p.rng.IntN(6) {
	case 0: // a file comes: a volume begins, or a copy of one
		return Moment{Event: unix.IN_CREATE | unix.IN_MOVED_TO, Nth: 1 + p.rng.IntN(4), Delay: p.within(p.Run / 8)}
	case 1: // a write, one of the first or one of many
		return Moment{Event: unix.IN_MODIFY, Nth: 1 + p.rng.IntN(1<<p.rng.IntN(8)), Delay: p.within(2 * time.Millisecond)}
	case 2: // a volume goes, or is closed
		return Moment{Event: unix.IN_DELETE | unix.IN_CLOSE_WRITE, Nth: 1 + p.rng.IntN(5), Delay: p.within(5 * time.Millisecond)}
	case 3: // before anything is written, or just after one of the first files came
		if p.rng.IntN(2) == 0 {
			return Moment{Delay: p.within(p.Run / 10)}
		}
		return Moment{Event: unix.IN_CREATE, Nth: 1 + p.rng.IntN(6), Delay: p.within(time.Millisecond)}
	}
	return Moment{Delay: p.within(p.Run)}
}

// within is less than d.
func (p *Plan) within(d time.Duration) time.Duration {
	return time.Duration(p.rng.Int64N(int64(max(d, 1))))
}

// Hit notes what a process was doing when it was killed at a moment.
func (p *Plan) Hit(m Moment, phase string) {
	p.count[phase]++
	p.good[phase] = append(p.good[phase], m)
}

// Late notes that the process had ended before the moment came. A run that was measured on a machine that was busy then is
// thought to be shorter.
func (p *Plan) Late(m Moment) {
	p.late++
	if m.Event == 0 && m.Delay > p.Run/2 {
		p.Run = max(p.Run*9/10, time.Millisecond)
	}
}

// Killed is how many processes were killed while they ran.
func (p *Plan) Killed() (n int) {
	for _, k := range p.count {
		n += k
	}
	return n
}

// Missed are the phases listed in which no process was killed.
func (p *Plan) Missed() []string {
	return slices.DeleteFunc(slices.Clone(p.Phases), func(phase string) bool { return p.count[phase] > 0 })
}

// Lacks says what is missing of what was planned: phases that were never hit, or kills; "" if nothing.
func (p *Plan) Lacks() string {
	switch missed := p.Missed(); {
	case len(missed) > 0:
		return fmt.Sprintf("none in the phases %q", missed)
	case p.Killed() < p.Least:
		return fmt.Sprintf("%d killed, %d wanted", p.Killed(), p.Least)
	}
	return ""
}

// String is the result: kills by phase.
func (p *Plan) String() string {
	var parts []string
	for _, phase := range slices.Sorted(maps.Keys(p.count)) {
		parts = append(parts, fmt.Sprintf("%s: %d", phase, p.count[phase]))
	}
	return fmt.Sprintf("kill points survived by phase (%d, and %d runs ended before): %s", p.Killed(), p.late, strings.Join(parts, ", "))
}

// Watch counts changes below a directory from now on.
type Watch struct{ fd int }

// NewWatch watches for the events of a moment in a store. The caller closes it.
func NewWatch(store string, m Moment) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if m.Event != 0 {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(store, cmp.Or(m.Dir, "volumes")), m.Event); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return &Watch{fd}, nil
}

// Close ends the watch.
func (w *Watch) Close() error { return unix.Close(w.fd) }

// Await returns when the moment has come, or the process has ended.
func (w *Watch) Await(m Moment, ended func() bool) {
	if m.Event != 0 {
		w.events(m.Nth, ended)
	}
	if m.Delay > 0 {
		time.Sleep(m.Delay)
	}
}

func (w *Watch) events(count int, ended func() bool) {
	buf := make([]byte, 4096)
	poll := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	for !ended() {
		if n, _ := unix.Poll(poll, 10); n <= 0 {
			continue
		}
		n, err := unix.Read(w.fd, buf)
		if err != nil {
			return
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			if count--; count <= 0 {
				return
			}
			// struct inotify_event: wd, mask, cookie, len (4 bytes each), name
			length := int(buf[at+12]) | int(buf[at+13])<<8
			at += unix.SizeofInotifyEvent + length
		}
	}
}
