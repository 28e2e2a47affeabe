package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Version of the protocol: peers of different majors refuse each other.
const (
	VersionMajor = 2
	VersionMinor = 0
)

// MaxPayload is the most bytes one message carries: a frame with the largest chunk that a store can be set to make, 16
// MiB, with room to spare.
const MaxPayload = 20 << 20

// Limits both sides keep and enforce. Part of the protocol's major version.
const (
	window        = 32 << 20 // bytes of messages a receiver lets a sender have under way, costs included
	messageCost   = 1 << 10  // what a message counts beside its payload
	eventsPerCall = 4        // events of one call that are not yet acknowledged
)

// frameType says what a frame is. The values travel on the wire; append only.
type frameType uint8

const (
	frameRequest  frameType = 1 // client: payload is the request
	frameEvent    frameType = 2 // server
	frameResponse frameType = 3 // server: the call is over
	frameFailure  frameType = 4 // server: the call is over; payload is an Error
	frameCancel   frameType = 5 // client: the response is not wanted any more
	frameCredit   frameType = 6 // both: payload is 4 bytes, how many bytes of messages were dealt with
	frameAck      frameType = 7 // client: an event of the call was dealt with
)

// carries reports whether frames of the type take part in flow control.
func (t frameType) carries() bool { return t >= frameRequest && t <= frameFailure }

// headerSize is the size of a frame's header: type, a zero byte, method, call, length of the payload.
const headerSize = 12

type header struct {
	kind   frameType
	method Method // of a request
	call   uint32
	length uint32
}

// cost is what the frame takes of the window.
func (h header) cost() int64 { return int64(h.length) + messageCost }

func (h header) append(buf []byte) []byte {
	buf = append(buf, byte(h.kind), 0)
	buf = binary.LittleEndian.AppendUint16(buf, uint16(h.method))
	buf = binary.LittleEndian.AppendUint32(buf, h.call)
	return binary.LittleEndian.AppendUint32(buf, h.length)
}

// readHeader returns io.EOF only if the stream ended between two frames.
func readHeader(r io.Reader) (header, error) {
	var b [headerSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return header{}, err
	}
	h := header{
		kind:   frameType(b[0]),
		method: Method(binary.LittleEndian.Uint16(b[2:])),
		call:   binary.LittleEndian.Uint32(b[4:]),
		length: binary.LittleEndian.Uint32(b[8:]),
	}
	return h, h.check(b[1])
}

func (h header) check(reserved byte) error {
	limit := uint32(0)
	switch {
	case h.kind.carries():
		limit = MaxPayload
	case h.kind == frameCredit:
		limit = 4
	case h.kind != frameCancel && h.kind != frameAck:
		return fmt.Errorf("%w: frame of type %d", ErrProtocol, h.kind)
	}
	switch {
	case reserved != 0:
		return fmt.Errorf("%w: reserved byte is %d", ErrProtocol, reserved)
	case h.length > limit || h.kind == frameCredit && h.length != 4:
		return fmt.Errorf("%w: frame of type %d with %d bytes", ErrProtocol, h.kind, h.length)
	}
	return nil
}

// greetingMagic begins what both sides send first.
const greetingMagic = "snapfs-w"

// greetingSize: magic, major, minor, four zero bytes.
const greetingSize = 16

func greeting(major, minor uint16) []byte {
	b := append(make([]byte, 0, greetingSize), greetingMagic...)
	b = binary.LittleEndian.AppendUint16(b, major)
	b = binary.LittleEndian.AppendUint16(b, minor)
	return append(b, 0, 0, 0, 0)
}

// checkGreeting refuses what is no snapfs and what is another major version of it.
func checkGreeting(b []byte) error {
	if string(b[:len(greetingMagic)]) != greetingMagic {
		return fmt.Errorf("%w: it does not speak snapfs", ErrProtocol)
	}
	if major := binary.LittleEndian.Uint16(b[8:]); major != VersionMajor {
		return fmt.Errorf("%w: it has %d.%d, this program %d.%d", ErrVersion,
			major, binary.LittleEndian.Uint16(b[10:]), VersionMajor, VersionMinor)
	}
	return nil
}
