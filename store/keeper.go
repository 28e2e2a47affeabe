package store

import (
	"context"
	"sync"
	"time"
)

// keeper does upkeep by itself: in a holder that stays, a while after a job that wrote has ended; in one that goes, for its own
// job, as little as nobody notices.
type keeper struct {
	e      *engine
	life   context.Context // of the holder's own command: when it is interrupted, nothing is begun any more
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

const (
	keeperPause = 2 * time.Second // after a job: the next one may be about to begin
	keeperBytes = 1 << 30         // of volumes, in one go beside other things
	partingTime = time.Second     // at most, when the holder ends
	// partingBytes of volumes are merged at most when a holder ends: a tenth of a second.
	partingBytes = 32 << 20
	// partingPart is how much of a larger volume that a crash left is copied then: what remains is left to those that end later.
	partingPart = 128 << 20
)

// startKeeper begins to wait for jobs to end.
func (e *engine) startKeeper(life context.Context) *keeper {
	k := &keeper{e: e, life: life}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	k.work.Go(k.run)
	return k
}

func (k *keeper) run() {
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-k.e.written:
		}
		pause(k.ctx, keeperPause)
		if k.ctx.Err() == nil {
			k.keepUp(k.ctx, upkeepBudget{bytes: keeperBytes})
		}
	}
}

// keepUp does it; that it fails is no news to anybody but the log.
func (k *keeper) keepUp(ctx context.Context, budget upkeepBudget) {
	if _, err := k.e.upkeep(ctx, nil, budget); err != nil && ctx.Err() == nil {
		k.e.log.Warn("upkeep was not finished", "err", err)
	}
}

// stop ends what is under way, at once.
func (k *keeper) stop() {
	k.cancel()
	k.work.Wait()
}

// part does a little before the holder goes.
func (k *keeper) part(wrote bool) {
	k.stop()
	if !wrote || k.life.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(k.life, partingTime)
	defer cancel()
	k.keepUp(ctx, upkeepBudget{partingBytes, partingPart})
}
