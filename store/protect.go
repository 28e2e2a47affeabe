package store

import (
	"errors"
	"time"

	"snapfs/store/volume"
)

// protectAfter is how long after a fact the newest frames of volumes that are still open get parity of their own. A command
// that ends by then closes its volumes, which protects them better and for less.
const protectAfter = 10 * time.Second

// protectLater sees to it that what was committed does not stay without parity while this process goes on.
func (e *engine) protectLater() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.covering || e.closed || e.config.parity() == 0 {
		return
	}
	e.covering = true
	e.flushes.Go(func() {
		wait := time.NewTimer(e.protectAfter)
		defer wait.Stop()
		select {
		case <-e.closing:
			return
		case <-wait.C:
		}
		e.mu.Lock()
		e.covering = false // what is committed from now on asks again
		e.mu.Unlock()
		e.protect()
	})
}

// protect writes parity for the newest frames of all open volumes. Trouble is only logged: nothing was promised.
func (e *engine) protect() {
	if err := e.enoughSpace(); err != nil {
		e.log.Warn("newest data not protected", "err", err)
		return
	}
	e.mu.Lock()
	open := make([]*openVolume, 0, len(e.current))
	for _, v := range e.current {
		open = append(open, v)
	}
	e.mu.Unlock()
	for _, v := range open {
		e.protectVolume(v)
	}
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if e.journal == nil {
		return
	}
	e.protectVolume(e.journal)
	if err := e.saveFold(); err != nil { // the journal is longer now
		e.log.Warn("index not brought up to date", "err", err)
	}
}

// protectVolume keeps the volume from being closed meanwhile, not from being written. Needs commitMu for the journal.
func (e *engine) protectVolume(v *openVolume) {
	err := func() error {
		v.gate.RLock()
		defer v.gate.RUnlock()
		if v.closed {
			return nil
		}
		if err := v.w.Protect(); err != nil {
			return err
		}
		return v.w.Sync()
	}()
	switch {
	case errors.Is(err, volume.ErrFailed):
		_ = e.failed(v, err) // sessions that rely on it are told; this one has nobody to tell
	case err != nil:
		e.log.Warn("newest data not protected", "volume", v.id, "err", err)
	}
}
