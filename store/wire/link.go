package wire

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// link is what both ends of a connection have in common: framing, flow control, one end of everything.
type link struct {
	stream   io.ReadWriteCloser
	in       *bufio.Reader
	send     budget
	received account
	writing  chan struct{} // holds a token while somebody writes
	down     chan struct{} // closed when the connection is over
	control  chan struct{} // wakes the sender of control frames

	once sync.Once
	err  error // why it is down; read after down

	mu     sync.Mutex
	queued []header // control frames to be sent
}

// inputBuffer makes one read of many small messages; larger payloads are read directly.
const inputBuffer = 64 << 10

func newLink(stream io.ReadWriteCloser) *link {
	control := make(chan struct{}, 1)
	l := &link{
		stream:  stream,
		in:      bufio.NewReaderSize(stream, inputBuffer),
		writing: make(chan struct{}, 1),
		down:    make(chan struct{}),
		control: control,
	}
	l.send.left = window
	l.received.ready = control
	return l
}

// greet exchanges versions. The stream is closed if ctx ends meanwhile.
func (l *link) greet(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { l.stream.Close() })
	err := l.exchangeGreetings()
	if !stop() && err != nil {
		return ctx.Err()
	}
	return err
}

// exchangeGreetings writes while it reads: a stream without a buffer would otherwise block both sides.
func (l *link) exchangeGreetings() error {
	wrote := make(chan error, 1)
	go func() {
		_, err := l.stream.Write(greeting(VersionMajor, VersionMinor))
		wrote <- err
	}()
	var peer [greetingSize]byte
	_, err := io.ReadFull(l.in, peer[:])
	if err == nil {
		err = checkGreeting(peer[:])
	} else {
		err = fmt.Errorf("%w: greeting: %w", ErrConnLost, err)
	}
	if err != nil {
		l.fail(err)
		<-wrote
		return err
	}
	if err := <-wrote; err != nil {
		l.fail(err)
		return fmt.Errorf("%w: greeting: %w", ErrConnLost, err)
	}
	return nil
}

// fail ends the connection; the first reason counts.
func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.down)
		l.stream.Close()
	})
}

// sendMessage sends a frame that takes part in flow control. parts may be used again when it returns.
func (l *link) sendMessage(ctx context.Context, h header, parts ...[]byte) error {
	return l.sendReserved(ctx, 0, h, parts...)
}

// sendReserved is sendMessage with so much taken before of what the peer lets this side send; the rest of that is given back. Not if the message
// is too large.
func (l *link) sendReserved(ctx context.Context, reserved int64, h header, parts ...[]byte) error {
	total := 0
	for _, p := range parts {
		total += len(p)
	}
	if total > MaxPayload {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, total)
	}
	h.length = uint32(total)
	if h.cost() <= reserved {
		l.send.put(reserved - h.cost())
	} else {
		l.send.put(reserved)
		if err := l.send.take(ctx, h.cost(), l.down); err != nil {
			return err
		}
	}
	err := l.write(ctx, h, parts...)
	if err != nil && err == ctx.Err() {
		l.send.put(h.cost())
	}
	return err
}

// smallMessage is up to which size parts are copied together rather than written one by one.
const smallMessage = 8 << 10

// write sends one frame, whole: once begun it cannot be given up. It returns ctx.Err() itself if nothing was sent.
func (l *link) write(ctx context.Context, h header, parts ...[]byte) error {
	select {
	case l.writing <- struct{}{}:
		defer func() { <-l.writing }()
	case <-ctx.Done():
		return ctx.Err()
	case <-l.down:
		return lost(l.err)
	}
	err := l.writeFrame(h, parts)
	if err != nil {
		l.fail(lost(err))
		return lost(err)
	}
	return nil
}

func (l *link) writeFrame(h header, parts [][]byte) error {
	if h.length <= smallMessage {
		buf := h.append(make([]byte, 0, headerSize+int(h.length)))
		for _, p := range parts {
			buf = append(buf, p...)
		}
		_, err := l.stream.Write(buf)
		return err
	}
	buffers := make(net.Buffers, 0, 1+len(parts))
	buffers = append(buffers, h.append(make([]byte, 0, headerSize)))
	buffers = append(buffers, parts...)
	_, err := buffers.WriteTo(l.stream)
	return err
}

// queue sends a control frame soon. It never blocks: the reader of a connection must not wait for the peer
// to read, or two of them wait for each other.
func (l *link) queue(h header) {
	l.mu.Lock()
	l.queued = append(l.queued, h)
	l.mu.Unlock()
	wake(l.control)
}

// sendControl sends credits and queued frames until the connection is over.
func (l *link) sendControl() {
	for {
		select {
		case <-l.control:
		case <-l.down:
			return
		}
		l.mu.Lock()
		queued := l.queued
		l.queued = nil
		l.mu.Unlock()
		for _, h := range queued {
			if l.write(context.Background(), h) != nil {
				return
			}
		}
		if n := l.received.due(); n > 0 {
			h := header{kind: frameCredit, length: 4}
			if l.write(context.Background(), h, binary.LittleEndian.AppendUint32(nil, n)) != nil {
				return
			}
		}
	}
}

// next reads a frame's header, keeps the accounts, and hands on what is not credit.
func (l *link) next() (header, error) {
	for {
		h, err := readHeader(l.in)
		if err != nil {
			return h, err
		}
		if h.kind.carries() {
			return h, l.received.receive(h.cost())
		}
		if h.kind != frameCredit {
			return h, nil
		}
		var b [4]byte
		if _, err := io.ReadFull(l.in, b[:]); err != nil {
			return h, unexpected(err)
		}
		if err := l.send.add(int64(binary.LittleEndian.Uint32(b[:]))); err != nil {
			return h, err
		}
	}
}

// payload reads the rest of a frame into buf.
func (l *link) payload(buf []byte) error {
	_, err := io.ReadFull(l.in, buf)
	return unexpected(err)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
