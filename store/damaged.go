package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"snapfs/store/volume"
)

// DamagedFrame is what reading a blob showed: a frame that is not what was written, or, without a volume, that no
// volume holds the blob.
type DamagedFrame struct {
	Volume volume.ID
	Offset int64
	Blob   ID // the one asked for; zero if none
}

// damagedIn is the damage that an error of reading tells of; ok is false if it is about something else.
func damagedIn(err error) (found DamagedFrame, ok bool) {
	var damage *CorruptError
	var missing *MissingError
	switch {
	case errors.As(err, &damage):
		return DamagedFrame{damage.Volume, damage.Offset, damage.ID}, true
	case errors.As(err, &missing):
		return DamagedFrame{Blob: missing.ID}, true
	}
	return found, false
}

// damagedFrames are the frames that this process found damaged. Their blobs count as absent for its Writers, so that a
// backup that comes across damage stores what it has in hand anew. Safe for concurrent use.
type damagedFrames struct {
	mu sync.Mutex
	at map[frameKey]struct{}
}

// note remembers the frame that an error of reading names; isNew is false if there is none, or nothing new about it.
func (d *damagedFrames) note(err error) (found DamagedFrame, isNew bool) {
	found, ok := damagedIn(err)
	if !ok || found.Volume.IsZero() {
		return found, ok
	}
	key := frameKey{found.Volume, found.Offset}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil {
		d.at = map[frameKey]struct{}{}
	}
	_, before := d.at[key]
	d.at[key] = struct{}{}
	return found, !before
}

// reportTimeout bounds how long a reader waits until the holder has taken note of damage.
const reportTimeout = 10 * time.Second

// noted tells the holder of damage that an error of reading names, and returns the error.
func (r *reader) noted(ctx context.Context, err error) error {
	found, isNew := r.damaged.note(err)
	if !isNew {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
	defer cancel()
	_ = r.session.Damaged(ctx, []DamagedFrame{found}) // whoever meets it next reports it again
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
