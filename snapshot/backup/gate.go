package backup

import "sync"

// gate lets a partial commit wait until nothing of a run is under way, and keeps it so meanwhile.
type gate struct {
	mu     sync.Mutex
	cond   sync.Cond
	closed bool
	active int
	over   bool // nothing waits any more
}

func newGate() *gate {
	g := &gate{}
	g.cond.L = &g.mu
	return g
}

// enter begins a piece of work that can be waited for; it blocks while the gate is closed.
func (g *gate) enter() {
	g.mu.Lock()
	for g.closed && !g.over {
		g.cond.Wait()
	}
	g.active++
	g.mu.Unlock()
}

// hold is enter without blocking: for work handed on by what has entered.
func (g *gate) hold() {
	g.mu.Lock()
	g.active++
	g.mu.Unlock()
}

// leave ends what enter or hold began.
func (g *gate) leave() {
	g.mu.Lock()
	g.active--
	if g.active == 0 {
		g.cond.Broadcast()
	}
	g.mu.Unlock()
}

// shut closes the gate and returns when nothing is active; false if the run ended first.
func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.active > 0 && !g.over {
		g.cond.Wait()
	}
	return !g.over
}

// abandon makes every wait return, now and later.
func (g *gate) abandon() {
	g.mu.Lock()
	g.over = true
	g.cond.Broadcast()
	g.mu.Unlock()
}

// open lets everything go on.
func (g *gate) open() {
	g.mu.Lock()
	g.closed = false
	g.cond.Broadcast()
	g.mu.Unlock()
}
