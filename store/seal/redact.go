package seal

import (
	"fmt"
	"io"
	"log/slog"
)

// hidden is what stands for a secret wherever it is printed.
const hidden = "[redacted]"

// redacted, embedded in a struct, keeps every way of printing it from showing its fields.
type redacted struct{}

// Format implements fmt.Formatter for every verb.
func (redacted) Format(f fmt.State, _ rune) { io.WriteString(f, hidden) }

// String implements fmt.Stringer.
func (redacted) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (redacted) GoString() string { return hidden }

// LogValue implements slog.LogValuer.
func (redacted) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText keeps secrets out of JSON and its kin.
func (redacted) MarshalText() ([]byte, error) { return []byte(hidden), nil }
