package store

import (
	"context"
	"errors"
	"testing"

	"snapfs/store/wire"
)

// tellingSession is a rebuild that tells much.
type tellingSession struct {
	fakeSession
	rebuilt chan struct{} // closed when it is done
}

func (s tellingSession) Rebuild(_ context.Context, progress func(RebuildProgress)) error {
	for i := range 100 {
		progress(RebuildProgress{Volumes: i + 1, VolumesTotal: 100})
	}
	close(s.rebuilt)
	return nil
}

// TestRebuildDoesNotWaitForItsListener: a client that is stopped, or whose output nobody reads, holds up no rebuild, for which everybody waits.
func TestRebuildDoesNotWaitForItsListener(t *testing.T) {
	here, there := unixPair(t)
	session := tellingSession{rebuilt: make(chan struct{})}
	served := make(chan error, 1)
	go func() {
		served <- wire.Serve(t.Context(), there, func(ctx context.Context, r *wire.Request) ([][]byte, error) {
			return handleSession(ctx, session, r)
		})
	}()
	conn, err := wire.NewConn(t.Context(), here)
	must(t, err)
	var last wire.Progress
	_, err = conn.Call(t.Context(), wire.MethodRebuild, func(event []byte) error {
		<-session.rebuilt
		return wire.Decode(event, &last)
	})
	if err != nil || last.Volumes != 100 {
		t.Errorf("told of %d volumes at the end, %v", last.Volumes, err)
	}
	must(t, conn.Close())
	if err := <-served; err != nil && !errors.Is(err, wire.ErrConnLost) {
		t.Error(err)
	}
}
