package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// output is a stream for people or programs: buffered, and careful with names when a person sits before it.
type output struct {
	*bufio.Writer
	raw      io.Writer // below the buffer, for children
	terminal bool
	width    int // of the terminal, columns
}

func newOutput(w io.Writer) *output {
	o := &output{Writer: bufio.NewWriterSize(pipeWriter{w}, 64<<10), raw: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		o.terminal = true
		if o.width, _, _ = term.GetSize(int(f.Fd())); o.width <= 0 {
			o.width = 80
		}
	}
	return o
}

// pipeWriter names the error of writing to a pipe that nobody reads any more.
type pipeWriter struct{ w io.Writer }

func (p pipeWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = errPipe
	}
	return n, err
}

// print writes text as it is. An error stays: flush returns it, and writers of much look at the result.
func (o *output) print(s string) error {
	_, err := o.WriteString(s)
	return err
}

func (o *output) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(o.Writer, format, args...)
	return err
}

func (o *output) flush() error { return o.Flush() }

// object writes one line of JSON.
func (o *output) object(v any) error {
	e := json.NewEncoder(o.Writer)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// name makes a path fit for this stream: as it is, or with what could harm or mislead a terminal escaped.
func (o *output) name(s string) string {
	if !o.terminal {
		return s
	}
	return escape(s)
}

// escape replaces bytes that are not UTF-8 and characters that control or reorder text by \x1b, \n, \u202e and the like.
func escape(s string) string {
	harmless := func(r rune) bool {
		return !unicode.IsControl(r) && !unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
	}
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !harmless(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case harmless(r):
			b.WriteString(s[i : i+n])
		default:
			quoted := fmt.Sprintf("%q", r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}

// jsonPath is a path in JSON, with its bytes when they are not UTF-8.
type jsonPath struct {
	Path       string `json:"path"`
	PathBase64 string `json:"path_base64,omitempty"`
}

func newJSONPath(path string) jsonPath {
	j := jsonPath{Path: path}
	if !utf8.ValidString(path) {
		j.PathBase64 = base64.StdEncoding.EncodeToString([]byte(path))
	}
	return j
}

// base64Paths gives all paths with their bytes, if one of them is not UTF-8.
func base64Paths(paths []string) []string {
	whole := true
	out := make([]string, len(paths))
	for i, path := range paths {
		whole = whole && utf8.ValidString(path)
		out[i] = base64.StdEncoding.EncodeToString([]byte(path))
	}
	if whole {
		return nil
	}
	return out
}

// jsonTime is RFC 3339 in UTC; "" stands for no time. Years beyond 9999, which file times may have, are no error.
func jsonTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
