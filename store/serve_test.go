package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"snapfs/store/volume"
	"snapfs/store/wire"
)

// fakeSession answers every call without a store.
type fakeSession struct{ Session }

func (fakeSession) Have(_ context.Context, ids []ID) ([]bool, error) {
	return make([]bool, len(ids)), nil
}
func (fakeSession) Put(_ context.Context, f Frame) (int64, error) { return int64(len(f.Pack)), nil }
func (fakeSession) Locate(_ context.Context, ids []ID) ([]Place, error) {
	return make([]Place, len(ids)), nil
}
func (fakeSession) Commit(_ context.Context, c Commit) (Snapshot, error) {
	return Snapshot{ID: c.Snapshot}, nil
}
func (fakeSession) Append(context.Context, []FactBody) error                    { return nil }
func (fakeSession) State(context.Context, uint64) (*State, error)               { return nil, nil }
func (fakeSession) Wait(context.Context, uint64) error                          { return nil }
func (fakeSession) Admin(context.Context, Signer) error                         { return nil }
func (fakeSession) Unlock(context.Context, string) error                        { return nil }
func (fakeSession) Pin(context.Context, []ID) error                             { return nil }
func (fakeSession) Rebuild(context.Context, func(RebuildProgress)) error        { return nil }
func (fakeSession) Stats(context.Context) (Stats, error)                        { return Stats{}, nil }
func (fakeSession) Read(context.Context, volume.ID, int64, int) ([]byte, error) { return nil, io.EOF }

// FuzzCalls sends malformed requests to the serving side.
func FuzzCalls(f *testing.F) {
	pack := volume.NewPacker(volume.LevelFastest).Pack(nil, []volume.Blob{{Kind: 1, ID: ID{1}, Length: 4}}, []byte("data"))
	body := encodeBody(&tagFact{snapshot: ID{1}, add: []string{"x"}})
	for method, m := range map[wire.Method]wire.Message{
		wire.MethodHave:   &wire.IDs{IDs: [][32]byte{{1}}},
		wire.MethodPut:    &wire.Put{Class: 1, Pack: pack},
		wire.MethodLocate: &wire.IDs{},
		wire.MethodRead:   &wire.Read{Offset: -1, Length: 1 << 31},
		wire.MethodCommit: &wire.Commit{Name: "n"},
		wire.MethodAppend: &wire.Facts{Facts: []wire.Fact{{Kind: uint8(FactTag), Body: body}, {Kind: 200}}},
		wire.MethodState:  &wire.Number{Value: 1},
		wire.MethodStats:  &wire.Empty{},
	} {
		f.Add(uint16(method), bytes.Join(wire.Encode(m), nil))
	}
	f.Fuzz(func(t *testing.T, method uint16, body []byte) {
		_, _ = handleSession(context.Background(), fakeSession{}, &wire.Request{Method: wire.Method(method), Body: body})
	})
}

func TestServerRefusesWhatIsOutOfOrder(t *testing.T) {
	st := openStore(t, newStore(t))
	defer closeStore(t, st)
	stream, err := dialStore(t.Context(), st.Dir())
	must(t, err)
	conn, err := wire.NewConn(t.Context(), stream)
	must(t, err)
	defer conn.Close()
	call := func(m wire.Method, request wire.Message) error {
		_, err := conn.Call(t.Context(), m, nil, wire.Encode(request)...)
		return err
	}
	if err := call(wire.MethodStats, &wire.Empty{}); !errors.Is(err, wire.ErrMessage) {
		t.Errorf("call before hello: %v", err)
	}
	must(t, call(wire.MethodHello, &wire.Hello{}))
	if err := call(wire.MethodHello, &wire.Hello{}); !errors.Is(err, wire.ErrMessage) {
		t.Errorf("second hello: %v", err)
	}
	var e *wire.Error
	if err := call(999, &wire.Empty{}); !errors.As(err, &e) || e.Code != wire.CodeUnknownMethod {
		t.Errorf("unknown method: %v", err)
	}
	if err := call(wire.MethodPut, &wire.Put{Class: 1, Pack: []byte("no pack")}); !errors.Is(err, wire.ErrMessage) {
		t.Errorf("malformed pack: %v", err)
	}
	if err := call(wire.MethodAppend, &wire.Facts{Facts: []wire.Fact{{Kind: 200}}}); err == nil {
		t.Error("a fact of an unknown kind was appended")
	}
	must(t, call(wire.MethodBye, &wire.Empty{}))
	if err := call(wire.MethodStats, &wire.Empty{}); !errors.Is(err, wire.ErrMessage) {
		t.Errorf("call after bye: %v", err)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	dir := newStore(t)
	closeStore(t, openStore(t, dir)) // what is started once for all
	before := runtime.NumGoroutine()
	holder := openStore(t, dir)
	clients := []*Store{openStore(t, dir), openStore(t, dir), openStore(t, dir)}
	for _, st := range clients {
		_, err := st.State(t.Context())
		must(t, err)
	}
	closeStore(t, clients[0])
	closeStore(t, holder)
	for _, st := range clients[1:] {
		_, err := st.State(t.Context())
		must(t, err)
	}
	closeStore(t, clients[1])
	closeStore(t, clients[2])
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 64<<10)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}
