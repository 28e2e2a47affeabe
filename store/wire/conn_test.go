package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// socketPair returns both ends of a unix stream socket.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", path); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// peers connects a Conn with a server for handler; both are gone, goroutines included, when the test ends.
func peers(t testing.TB, handler Handler) (*Conn, context.CancelFunc) {
	t.Helper()
	noLeak(t)
	client, server := socketPair(t)
	return connect(t, client, server, handler)
}

func connect(t testing.TB, client, server io.ReadWriteCloser, handler Handler) (*Conn, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, server, handler) }()
	c, err := NewConn(ctx, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if err := <-served; err != nil && !errors.Is(err, ErrConnLost) {
			t.Errorf("serve: %v", err)
		}
		cancel()
	})
	return c, cancel
}

// noLeak fails the test if goroutines are left when everything registered after it was cleaned up.
func noLeak(t testing.TB) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if runtime.NumGoroutine() <= before {
				return
			}
		}
		buf := make([]byte, 64<<10)
		t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
}

// echo answers with the request.
func echo(_ context.Context, r *Request) ([][]byte, error) { return [][]byte{r.Body}, nil }

func TestCallsAreAnswered(t *testing.T) {
	c, _ := peers(t, echo)
	for _, n := range []int{0, 1, 11, smallMessage, smallMessage + 1, 1 << 16, 1<<16 + 1, 1 << 20, MaxPayload} {
		want := bytes.Repeat([]byte{byte(n), 7}, n/2+1)[:n]
		got, err := c.Call(t.Context(), 1, nil, want[:n/3], want[n/3:])
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: %d bytes back, %v", n, len(got), err)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	c, _ := peers(t, func(context.Context, *Request) ([][]byte, error) {
		return [][]byte{make([]byte, MaxPayload), {1}}, nil
	})
	if _, err := c.Call(t.Context(), 1, nil, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("request: %v", err)
	}
	if _, err := c.Call(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("response: %v", err)
	}
}

// TestEventsThatAreNotSent: an event that could not be sent takes no place of those that are not acknowledged yet.
func TestEventsThatAreNotSent(t *testing.T) {
	c, _ := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		for range eventsPerCall + 1 {
			if err := r.Emit(ctx, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
				return nil, fmt.Errorf("too large: %v", err)
			}
		}
		return nil, r.Emit(ctx, []byte("fits"))
	})
	var got []byte
	_, err := c.Call(t.Context(), 1, func(event []byte) error { got = event; return nil })
	if err != nil || string(got) != "fits" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestErrorsTravel(t *testing.T) {
	c, _ := peers(t, func(_ context.Context, r *Request) ([][]byte, error) {
		switch r.Method {
		case 1:
			return nil, fmt.Errorf("wrapped: %w", &Error{Code: CodeFirstOwn, Text: "it is late", Data: []byte{1, 2}})
		case 2:
			return nil, errors.New("plain")
		case 3:
			return nil, Decode([]byte{1}, &Empty{})
		case 4:
			return nil, errors.New(strings.Repeat("long", 1<<20))
		}
		return nil, UnknownMethod(r.Method)
	})
	var e *Error
	_, err := c.Call(t.Context(), 1, nil)
	if !errors.As(err, &e) || e.Code != CodeFirstOwn || e.Text != "it is late" || !bytes.Equal(e.Data, []byte{1, 2}) {
		t.Errorf("own error: %#v", err)
	}
	if _, err := c.Call(t.Context(), 2, nil); !errors.As(err, &e) || e.Code != CodeText || e.Text != "plain" {
		t.Errorf("plain error: %#v", err)
	}
	if _, err := c.Call(t.Context(), 3, nil); !errors.Is(err, ErrMessage) {
		t.Errorf("malformed request: %#v", err)
	}
	if _, err := c.Call(t.Context(), 4, nil); !errors.As(err, &e) || len(e.Text) > maxErrorText {
		t.Errorf("long error: %T", err)
	}
	if _, err := c.Call(t.Context(), 99, nil); !errors.As(err, &e) || e.Code != CodeUnknownMethod {
		t.Errorf("unknown method: %#v", err)
	}
}

func TestThousandCallsAtOnce(t *testing.T) {
	var running, most atomic.Int32
	release := make(chan struct{})
	c, _ := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		if running.Add(1) == 1000 {
			close(release)
		}
		defer running.Add(-1)
		most.Store(max(most.Load(), running.Load()))
		select {
		case <-release:
		case <-ctx.Done():
		}
		return [][]byte{r.Body}, nil
	})
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			want := binary.LittleEndian.AppendUint32(nil, uint32(i))
			got, err := c.Call(context.Background(), 1, nil, want)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("call %d: %v %v", i, got, err)
			}
		})
	}
	wg.Wait()
	if len(c.calls) != 0 {
		t.Errorf("%d calls are left over", len(c.calls))
	}
}

func TestManyLargeCallsStayWithinTheWindow(t *testing.T) {
	var under, most atomic.Int64
	c, _ := peers(t, func(_ context.Context, r *Request) ([][]byte, error) {
		for now := under.Add(int64(len(r.Body))); ; {
			if old := most.Load(); now <= old || most.CompareAndSwap(old, now) {
				break
			}
		}
		time.Sleep(time.Millisecond)
		under.Add(-int64(len(r.Body)))
		return nil, nil
	})
	body := make([]byte, 3<<20)
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, err := c.Call(context.Background(), 1, nil, body); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > window {
		t.Errorf("%d bytes were under way, the window is %d", most.Load(), window)
	}
}

func TestCancelReachesTheHandler(t *testing.T) {
	ended := make(chan error, 1)
	started := make(chan struct{})
	c, _ := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		if r.Method == 2 {
			return nil, nil
		}
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := c.Call(ctx, 1, nil); err != context.Canceled {
		t.Errorf("call: %v", err)
	}
	if err := <-ended; err != context.Canceled {
		t.Errorf("handler: %v", err)
	}
	if _, err := c.Call(t.Context(), 2, nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
	if _, err := c.Call(ctx, 2, nil); err != context.Canceled {
		t.Errorf("a call cancelled beforehand: %v", err)
	}
}

func TestEventsComeInOrderBeforeTheResponse(t *testing.T) {
	const events = 100
	c, _ := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		for i := range events {
			if err := r.Emit(ctx, []byte{byte(i)}, []byte("event")); err != nil {
				return nil, err
			}
		}
		return [][]byte{[]byte("done")}, nil
	})
	for _, slow := range []time.Duration{0, time.Millisecond} {
		next := 0
		got, err := c.Call(t.Context(), 1, func(e []byte) error {
			time.Sleep(slow)
			if want := append([]byte{byte(next)}, "event"...); !bytes.Equal(e, want) {
				t.Errorf("event %q, want %q", e, want)
			}
			next++
			return nil
		})
		if err != nil || string(got) != "done" || next != events {
			t.Errorf("%q, %v after %d events", got, err, next)
		}
	}
	if _, err := c.Call(t.Context(), 1, nil); err != nil {
		t.Errorf("events ignored: %v", err)
	}
	stop := errors.New("enough")
	if _, err := c.Call(t.Context(), 1, func([]byte) error { return stop }); err != stop {
		t.Errorf("events refused: %v", err)
	}
}

func TestSlowListenerHoldsUpOnlyItsCall(t *testing.T) {
	var emitted atomic.Int32
	c, _ := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		if r.Method == 1 {
			for {
				if err := r.Emit(ctx, make([]byte, 1<<20)); err != nil {
					return nil, err
				}
				emitted.Add(1)
			}
		}
		return echo(ctx, r)
	})
	block := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		c.Call(ctx, 1, func([]byte) error { <-block; return nil })
	})
	for range 100 {
		if _, err := c.Call(t.Context(), 2, nil, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if n := emitted.Load(); n > eventsPerCall {
		t.Errorf("%d events are under way, %d allowed", n, eventsPerCall)
	}
	cancel()
	close(block)
	wg.Wait()
}

func TestPeerDeathFailsEveryCall(t *testing.T) {
	noLeak(t)
	client, server := socketPair(t)
	started := make(chan struct{}, 10)
	c, _ := connect(t, client, server, func(ctx context.Context, r *Request) ([][]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := c.Call(context.Background(), 1, nil); !errors.Is(err, ErrConnLost) {
				t.Errorf("call: %v", err)
			}
		})
	}
	for range 10 {
		<-started
	}
	server.Close()
	wg.Wait()
	<-c.link.down
	if _, err := c.Call(t.Context(), 1, nil); !errors.Is(err, ErrConnLost) {
		t.Errorf("call afterwards: %v", err)
	}
}

func TestServerEndingSendsWhatIsDone(t *testing.T) {
	started := make(chan struct{}, 2)
	c, end := peers(t, func(ctx context.Context, r *Request) ([][]byte, error) {
		started <- struct{}{}
		<-ctx.Done()
		if r.Method == 1 {
			return nil, ctx.Err()
		}
		return [][]byte{[]byte("committed")}, nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := c.Call(context.Background(), 1, nil); !errors.Is(err, ErrConnLost) {
			t.Errorf("call given up: %v", err)
		}
	})
	wg.Go(func() {
		if got, err := c.Call(context.Background(), 2, nil); err != nil || string(got) != "committed" {
			t.Errorf("call ended well: %q %v", got, err)
		}
	})
	<-started
	<-started
	end()
	wg.Wait()
}

func TestServerEndingDoesNotWaitForASleepingPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- Serve(ctx, server, echo) }()
		io.ReadFull(client, make([]byte, greetingSize))
		client.Write(greeting(VersionMajor, VersionMinor))
		client.Write(header{kind: frameRequest, call: 1}.append(nil))
		synctest.Wait() // the answer is being written and nobody reads
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		client.Close()
	})
}

func TestVersionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		greeting []byte
		want     error
	}{
		{greeting(VersionMajor+1, 0), ErrVersion},
		{greeting(0, 9), ErrVersion},
		{[]byte("HTTP/1.1 400 Bad"), ErrProtocol},
		{[]byte("snapfs-w"), ErrConnLost},
		{nil, ErrConnLost},
	} {
		for _, side := range []string{"client", "server"} {
			a, b := net.Pipe()
			go func() {
				b.Write(c.greeting)
				io.CopyN(io.Discard, b, greetingSize)
				b.Close()
			}()
			var err error
			if side == "client" {
				_, err = NewConn(t.Context(), a)
			} else {
				err = Serve(t.Context(), a, echo)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s greeted with %q: %v, want %v", side, c.greeting, err, c.want)
			}
		}
	}
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		b.Write(greeting(VersionMajor, VersionMinor+1))
		io.Copy(io.Discard, b)
	}()
	c, err := NewConn(t.Context(), a)
	if err != nil {
		t.Fatalf("newer minor: %v", err)
	}
	c.Close()
}

func TestSilentPeerEndsWithTheContext(t *testing.T) {
	noLeak(t)
	a, b := net.Pipe()
	defer b.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := NewConn(ctx, a); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestUnbufferedStream(t *testing.T) {
	noLeak(t)
	a, b := net.Pipe()
	c, _ := connect(t, a, b, echo)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			want := make([]byte, 100_000)
			if got, err := c.Call(context.Background(), 1, nil, want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes back, %v", len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestClientRefusesWhatServersMustNotSend(t *testing.T) {
	big := header{kind: frameEvent, length: MaxPayload}.append(nil)
	for name, sent := range map[string][]byte{
		"a request":        header{kind: frameRequest}.append(nil),
		"an unknown frame": header{kind: 77}.append(nil),
		"a huge frame":     header{kind: frameResponse, length: MaxPayload + 1}.append(nil),
		"too much credit":  append(header{kind: frameCredit, length: 4}.append(nil), 1, 0, 0, 0),
		"half a frame":     big[:headerSize-1],
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			a, b := net.Pipe()
			go func() {
				io.ReadFull(b, make([]byte, greetingSize))
				b.Write(append(greeting(VersionMajor, VersionMinor), sent...))
				b.Close()
			}()
			c, err := NewConn(t.Context(), a)
			if err == nil {
				_, err = c.Call(t.Context(), 1, nil)
				c.Close()
			}
			if !errors.Is(err, ErrConnLost) {
				t.Error(err)
			}
		})
	}
}

// FuzzServer sends raw bytes to a server.
func FuzzServer(f *testing.F) {
	frame := func(h header, body string) []byte {
		h.length = uint32(len(body))
		return append(h.append(nil), body...)
	}
	request := frame(header{kind: frameRequest, method: 1, call: 1}, "hello")
	f.Add(request)
	f.Add(append(request, request...))
	f.Add(frame(header{kind: frameRequest, method: 2, call: 3}, ""))
	f.Add(append(frame(header{kind: frameRequest, method: 3, call: 3}, ""), frame(header{kind: frameCancel, call: 3}, "")...))
	f.Add(frame(header{kind: frameCredit}, "\x01\x00\x00\x00"))
	f.Add(frame(header{kind: frameAck, call: 1}, ""))
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			Serve(context.Background(), server, func(ctx context.Context, r *Request) ([][]byte, error) {
				switch r.Method {
				case 1:
					return [][]byte{r.Body}, nil
				case 2:
					return nil, r.Emit(ctx, r.Body)
				}
				return nil, UnknownMethod(r.Method)
			})
		})
		wg.Go(func() { io.Copy(io.Discard, client) })
		client.Write(greeting(VersionMajor, VersionMinor))
		client.Write(sent)
		client.Close()
		wg.Wait()
	})
}

// FuzzClient sends raw bytes to a client that waits for an answer.
func FuzzClient(f *testing.F) {
	frame := func(h header, body string) []byte {
		h.length = uint32(len(body))
		return append(h.append(nil), body...)
	}
	f.Add(frame(header{kind: frameResponse, call: 1}, "hello"))
	f.Add(append(frame(header{kind: frameEvent, call: 1}, "one"), frame(header{kind: frameFailure, call: 1}, "two")...))
	f.Add(frame(header{kind: frameResponse, call: 2}, ""))
	f.Add(frame(header{kind: frameCredit}, "\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(io.Discard, server) })
		wg.Go(func() {
			server.Write(greeting(VersionMajor, VersionMinor))
			server.Write(sent)
			server.Close()
		})
		if c, err := NewConn(context.Background(), client); err == nil {
			_, _ = c.Call(context.Background(), 1, func([]byte) error { return nil }, []byte("request"))
			c.Close()
		}
		client.Close()
		wg.Wait()
	})
}

func benchmarkCall(b *testing.B, size int, handler Handler) {
	c, _ := peers(b, handler)
	body := make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(context.Background(), 1, nil, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRoundTrip(b *testing.B) { benchmarkCall(b, 64, echo) }

func BenchmarkSend1MiB(b *testing.B) {
	benchmarkCall(b, 1<<20, func(context.Context, *Request) ([][]byte, error) { return nil, nil })
}

func BenchmarkReceive1MiB(b *testing.B) {
	answer := [][]byte{make([]byte, 1<<20)}
	c, _ := peers(b, func(context.Context, *Request) ([][]byte, error) { return answer, nil })
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Call(context.Background(), 1, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParallelRoundTrip(b *testing.B) {
	c, _ := peers(b, echo)
	body := make([]byte, 64)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Call(context.Background(), 1, nil, body); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
