package backup

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestStreamBreaks has a source of a stream that breaks off, and says so with the error that io.ReadFull gives for an end.
func TestStreamBreaks(t *testing.T) {
	repo := newFakeRepo(t)
	in := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrUnexpectedEOF))
	_, err := backupStream(t.Context(), repo, in, nil, &StreamOptions{Name: "s"})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}
