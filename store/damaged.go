package store

import (
	"context"
	"errors"
	"sync"
)

// damagedFrames are the frames that this process found damaged. Their blobs count as absent for its Writers, so that a
// backup that comes across damage stores what it has in hand anew. Safe for concurrent use.
type damagedFrames struct {
	mu sync.Mutex
	at map[frameKey]struct{}
}

// note remembers the frame that an error of reading names, if any, and returns the error.
func (d *damagedFrames) note(err error) error {
	var damage *CorruptError
	if errors.As(err, &damage) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.at == nil {
			d.at = map[frameKey]struct{}{}
		}
		d.at[frameKey{damage.Volume, damage.Offset}] = struct{}{}
	}
	return err
}

func (d *damagedFrames) none() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.at) == 0
}

func (d *damagedFrames) has(p Place) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.at[frameKey{p.Volume, p.Offset}]
	return ok
}

// have is the session's Have without what lies in damaged frames.
func (d *damagedFrames) have(ctx context.Context, session Session, ids []ID) ([]bool, error) {
	have, err := session.Have(ctx, ids)
	if err != nil || d.none() {
		return have, err
	}
	var hits []ID
	for i, id := range ids {
		if have[i] {
			hits = append(hits, id)
		}
	}
	places, err := session.Locate(ctx, hits)
	if err != nil {
		return nil, err
	}
	for i := range ids {
		if have[i] {
			have[i] = !d.has(places[0])
			places = places[1:]
		}
	}
	return have, nil
}
