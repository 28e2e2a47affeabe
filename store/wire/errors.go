package wire

import (
	"errors"
	"fmt"
)

// The connection.
var (
	// ErrConnLost: the connection ended, or the peer is about to end. What was called may have happened or not.
	ErrConnLost = errors.New("connection lost")
	// ErrVersion: the peer speaks another major version.
	ErrVersion = errors.New("peer speaks another version")
	// ErrProtocol: the peer sent what it must not; the connection is closed.
	ErrProtocol = errors.New("peer breaks the protocol")
	// ErrTooLarge: a message exceeds MaxPayload; nothing was sent.
	ErrTooLarge = errors.New("message is too large")
	// ErrMessage: bytes are not the message they should be.
	ErrMessage = errors.New("malformed message")
)

// Code says what kind of failure an Error is. The values travel on the wire; append only.
type Code uint16

// Codes below CodeFirstOwn belong to this package; callers give a meaning to those from it on.
const (
	CodeText          Code = 0 // nothing but a text
	CodeCanceled      Code = 1 // the call was cancelled by its caller
	CodeEnding        Code = 2 // the peer is ending; the caller sees ErrConnLost
	CodeUnknownMethod Code = 3
	CodeMessage       Code = 4 // the request was malformed
	CodeFirstOwn      Code = 16
)

// Error is a failure that the other side reported. A Handler returns one to send code and data.
type Error struct {
	Code Code
	Text string
	Data []byte // as the code has it
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Is makes errors.Is see the meaning of this package's own codes.
func (e *Error) Is(target error) bool {
	return e.Code == CodeEnding && target == ErrConnLost || e.Code == CodeMessage && target == ErrMessage
}

func (e *Error) code(c *coder) {
	c.u16((*uint16)(&e.Code))
	c.string(&e.Text)
	c.rest(&e.Data)
}

// maxErrorText keeps a failure within one message, however its text came about.
const maxErrorText = 64 << 10

// asError is what is sent of a handler's error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && len(e.Text)+len(e.Data) <= maxErrorText {
		return e
	}
	code := CodeText
	if errors.Is(err, ErrMessage) {
		code = CodeMessage
	}
	text := err.Error()
	return &Error{Code: code, Text: text[:min(len(text), maxErrorText)]}
}

func lost(cause error) error {
	if cause == nil || errors.Is(cause, ErrConnLost) {
		return ErrConnLost
	}
	return fmt.Errorf("%w: %w", ErrConnLost, cause)
}
