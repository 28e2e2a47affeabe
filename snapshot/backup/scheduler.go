package backup

import "sync"

// task is a step of the walk: a directory, or a name to be looked at again.
type task interface {
	run(w *walker) error
}

// scheduler holds the tasks of the walkers. Each walker works depth first on its own stack, so that neighbours in
// the tree are scanned, read and stored together; one that has nothing left takes the oldest task of another,
// which is the largest piece. Safe for concurrent use.
type scheduler struct {
	mu     sync.Mutex
	cond   sync.Cond
	stacks [][]task // by walker
	ended  bool
}

func newScheduler(walkers int) *scheduler {
	s := &scheduler{stacks: make([][]task, walkers)}
	s.cond.L = &s.mu
	return s
}

// push gives tasks to a walker's stack; the first of them is done first.
func (s *scheduler) push(walker int, tasks ...task) {
	s.mu.Lock()
	for i := len(tasks) - 1; i >= 0; i-- {
		s.stacks[walker] = append(s.stacks[walker], tasks[i])
	}
	s.cond.Broadcast()
	s.mu.Unlock()
}

// pop returns the next task for a walker. If there is none it waits, or with wait unset returns nil;
// ok is false when the walk has ended.
func (s *scheduler) pop(walker int, wait bool) (t task, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ended {
		if own := s.stacks[walker]; len(own) > 0 {
			t = own[len(own)-1]
			own[len(own)-1] = nil
			s.stacks[walker] = own[:len(own)-1]
			return t, true
		}
		if t = s.steal(); t != nil {
			return t, true
		}
		if !wait {
			return nil, true
		}
		s.cond.Wait()
	}
	return nil, false
}

func (s *scheduler) steal() task {
	for i, stack := range s.stacks {
		if len(stack) > 0 {
			t := stack[0]
			stack[0] = nil
			s.stacks[i] = stack[1:]
			return t
		}
	}
	return nil
}

// end makes every pop return.
func (s *scheduler) end() {
	s.mu.Lock()
	s.ended = true
	s.cond.Broadcast()
	s.mu.Unlock()
}
