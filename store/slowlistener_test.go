package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"snapfs/store/volume"
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

// readingSession counts what was read for it.
type readingSession struct {
	fakeSession
	reads *atomic.Int32
}

func (s readingSession) Read(_ context.Context, _ volume.ID, _ int64, n int) ([]byte, error) {
	s.reads.Add(1)
	return make([]byte, n), nil
}

// TestReadsThatNobodyTakes: a client that asks for much and takes nothing has no more of it held in memory than may be under way.
func TestReadsThatNobodyTakes(t *testing.T) {
	const calls, length, most = 300, 1 << 20, 32
	here, there := unixPair(t)
	var asked, reads atomic.Int32
	served := make(chan error, 1)
	go func() {
		served <- wire.Serve(t.Context(), there, func(ctx context.Context, r *wire.Request) ([][]byte, error) {
			asked.Add(1)
			return handleSession(ctx, readingSession{reads: &reads}, r)
		})
	}()
	data := append([]byte("snapfs-w"), wire.VersionMajor, 0, wire.VersionMinor, 0, 0, 0, 0, 0)
	for i := range calls {
		request := bytes.Join(wire.Encode(&wire.Read{Length: length}), nil)
		data = append(data, 1, 0, byte(wire.MethodRead), 0)
		data = binary.LittleEndian.AppendUint32(data, uint32(i+1))
		data = binary.LittleEndian.AppendUint32(data, uint32(len(request)))
		data = append(data, request...)
	}
	if _, err := here.Write(data); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); asked.Load() < calls || reads.Load() < most-1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d asked for, %d read", asked.Load(), reads.Load())
		}
	}
	must(t, here.Close())
	if err := <-served; err != nil && !errors.Is(err, wire.ErrConnLost) {
		t.Error(err)
	}
	if n := reads.Load(); n > most {
		t.Errorf("%d responses were in memory at once", n)
	}
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
