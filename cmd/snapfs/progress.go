package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"snapfs/snapshot"
)

// How often progress is written: to a terminal, and as JSON.
const (
	redrawEvery = 200 * time.Millisecond
	eventEvery  = time.Second
)

// reporter writes what happens while a long job runs: progress and the paths it had trouble with. Safe for
// concurrent use.
type reporter struct {
	p       *program
	started time.Time

	mu    sync.Mutex
	last  time.Time // of the last progress
	drawn bool      // a progress line is on the terminal
}

func (p *program) newReporter() *reporter {
	now := p.now()
	return &reporter{p: p, started: now, last: now}
}

// wantsProgress reports whether it is time for the next piece of progress, and for JSON or the terminal.
func (r *reporter) wantsProgress() (json, line bool) {
	g := r.p.global
	if g.noProgress || g.quiet {
		return false, false
	}
	json, line = g.json, !g.json && r.p.err.terminal
	since := r.p.now().Sub(r.last)
	return json && since >= eventEvery, line && since >= redrawEvery
}

// progress shows how far the job is. event is made only for JSON, line only for a terminal; without event (nil) JSON has none.
func (r *reporter) progress(event func() any, line func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	json, draw := r.wantsProgress()
	if json && event == nil || !json && !draw {
		return
	}
	r.last = r.p.now()
	if json {
		r.p.out.object(event())
		r.p.out.flush()
		return
	}
	text := []rune(escape(line()))
	if len(text) >= r.p.err.width {
		text = text[:max(r.p.err.width-1, 0)]
	}
	r.p.err.print("\r" + string(text) + "\x1b[K")
	r.p.err.flush()
	r.drawn = true
}

// clear takes the progress line off the terminal.
func (r *reporter) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
}

func (r *reporter) erase() {
	if r.drawn {
		r.p.err.print("\r\x1b[K")
		r.p.err.flush()
		r.drawn = false
	}
}

// lines makes way for lines of a job on stdout; done is called after them.
func (r *reporter) lines() (done func()) {
	r.mu.Lock()
	r.erase()
	return r.mu.Unlock
}

// errorEvent is a path that a job had trouble with.
type errorEvent struct {
	Event string `json:"event"`
	jsonPath
	Error string `json:"error"`
}

// problem reports a path that could not be read or written.
func (r *reporter) problem(e *snapshot.PathError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p.global.json {
		r.p.out.object(errorEvent{"error", newJSONPath(e.Path), fmt.Sprintf("%s: %v", e.Op, e.Err)})
		return
	}
	r.erase()
	r.p.say("%s", e.Error())
}

// warn says something that concerns no path.
func (r *reporter) warn(msg string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
	r.p.say("%s", msg)
}

// event writes a JSON object of a job.
func (r *reporter) event(v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.p.out.object(v)
}

// pace describes the speed of a job and the time it still needs; total 0 means that is not known.
func (r *reporter) pace(done, total int64) string {
	elapsed := r.p.now().Sub(r.started)
	rate := float64(done) / max(elapsed.Seconds(), 0.001)
	parts := []string{formatSize(int64(rate)) + "/s"}
	if total > done && rate > 0 {
		left := time.Duration(float64(total-done) / rate * float64(time.Second))
		parts = append(parts, "ETA "+formatElapsed(left.Round(time.Second)))
	}
	return strings.Join(parts, ", ")
}

// meter is a writer that shows as progress how much has passed it.
type meter struct {
	w       io.Writer
	r       *reporter
	total   int64 // 0: not known
	written int64
}

// meter measures what is written to stdout. A terminal shows the data itself.
func (r *reporter) meter(total int64) io.Writer {
	if r.p.out.terminal || r.p.global.json {
		return r.p.out
	}
	return &meter{w: r.p.out, r: r, total: total}
}

func (m *meter) Write(b []byte) (int, error) {
	n, err := m.w.Write(b)
	m.written += int64(n)
	m.r.progress(nil, func() string {
		line := formatSize(m.written)
		if m.total > 0 {
			line += " of " + formatSize(m.total)
		}
		return line + ", " + m.r.pace(m.written, m.total)
	})
	return n, err
}
