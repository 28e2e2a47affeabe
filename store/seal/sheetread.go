package seal

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ErrSheet: a typed sheet of words cannot be read. The error is a *SheetError.
var ErrSheet = errors.New("the sheet of words has mistakes")

// SheetError lists the mistakes in a typed sheet: each names its line.
type SheetError struct{ Problems []string }

func (e *SheetError) Error() string { return strings.Join(e.Problems, "\n") }

// Unwrap gives an error for each of them.
func (e *SheetError) Unwrap() (list []error) {
	for _, p := range e.Problems {
		list = append(list, errors.New(p))
	}
	return list
}

// Is makes errors.Is(err, ErrSheet) true.
func (e *SheetError) Is(target error) bool { return target == ErrSheet }

// isSheet tells a sheet from the text that Export gives.
func isSheet(text []byte) bool {
	return !bytes.HasPrefix(text, []byte(slotMagic+" ")) && !bytes.HasPrefix(text, []byte(bundleMagic+" "))
}

// ReadSheet is the inverse of Sheet. Lines that do not begin with a number, but for the last, are passed over, as are capitals
// and spaces; four letters of a word are enough. Errors: *SheetError.
func ReadSheet(text []byte) ([]byte, error) {
	s := sheet{list: newWordList(), lines: map[int][]int{}}
	for line := range strings.Lines(string(text)) {
		s.line(strings.Fields(line))
	}
	data := s.all()
	if len(s.problems) > 0 {
		return nil, &SheetError{s.shown()}
	}
	out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(fromWords(data))), 16*maxFile))
	if err != nil {
		return nil, &SheetError{[]string{"the words do not give keys: " + err.Error()}}
	}
	return out, nil
}

// sheet is what has been read of one.
type sheet struct {
	list     *wordList
	lines    map[int][]int
	bad      map[int]bool
	end      []int // after "end"
	count    int   // of lines, by the last one
	problems []string
}

func (s *sheet) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// shown bounds the list: who has many mistakes mends the first ones first.
func (s *sheet) shown() []string {
	if len(s.problems) <= mostShown {
		return s.problems
	}
	return append(s.problems[:mostShown:mostShown], fmt.Sprintf("and %d more", len(s.problems)-mostShown))
}

// line takes a line of the text.
func (s *sheet) line(fields []string) {
	if len(fields) < 2 {
		return
	}
	if strings.ToLower(fields[0]) == endWord {
		s.last(fields[1:])
		return
	}
	n, err := strconv.Atoi(strings.TrimRight(fields[0], ".:)"))
	if err != nil || n < 1 || n > mostLines {
		return
	}
	if s.bad == nil {
		s.bad = map[int]bool{}
	}
	words, ok := s.words(fmt.Sprintf("line %d", n), fields[1:])
	switch {
	case !ok:
		s.bad[n] = true
	case len(words) > lineWords+1 || len(words) < 2:
		s.bad[n] = true
		s.problem("line %d: has %d words, not %d", n, len(words), lineWords+1)
	case !s.checked(n, words):
		s.bad[n] = true
		s.problem("line %d: %s", n, s.suspects(n, words))
	case s.lines[n] != nil && !slices.Equal(s.lines[n], words):
		s.problem("line %d: is there twice", n)
	default:
		s.lines[n] = words
	}
}

// words finds words in the list, and says what those that are not there could be.
func (s *sheet) words(where string, fields []string) (words []int, ok bool) {
	ok = true
	for i, f := range fields {
		n, found := s.list.find(f)
		if !found {
			ok = false
			hint := ""
			if near := s.list.nearest(f, suggestions); len(near) > 0 {
				hint = "; did you mean " + strings.Join(near, ", ") + "?"
			}
			s.problem("%s, word %d: %q is not in the list of words%s", where, i+1, f, hint)
		}
		words = append(words, n)
	}
	return words, ok
}

func (s *sheet) checked(n int, words []int) bool {
	last := len(words) - 1
	return checkWord(n, words[:last]) == words[last]
}

// suspects tells which word of a line that does not fit its check could be a slip: with another one like it the line would fit.
func (s *sheet) suspects(n int, words []int) string {
	var found []string
	for i, was := range words {
		for _, other := range s.list.within(s.list.words[was], 2, len(s.list.words)) {
			words[i] = s.list.place[other]
			if s.checked(n, words) {
				found = append(found, fmt.Sprintf("word %d %s for %s", i+1, other, s.list.words[was]))
			}
		}
		words[i] = was
	}
	for i := range len(words) - 1 {
		words[i], words[i+1] = words[i+1], words[i]
		if s.checked(n, words) && words[i] != words[i+1] {
			found = append(found, fmt.Sprintf("words %d and %d the other way round", i+1, i+2))
		}
		words[i], words[i+1] = words[i+1], words[i]
	}
	text := "one of its words, or the number, is wrong"
	if len(found) > 0 && len(found) <= suggestions {
		text += "; it would fit with " + strings.Join(found, ", or ")
	}
	return text
}

// last takes the line that says how many there are, and checks all.
func (s *sheet) last(fields []string) {
	n, err := strconv.Atoi(fields[0])
	if err != nil || n < 1 || n > mostLines {
		return
	}
	s.count = n
	words, ok := s.words("last line", fields[1:])
	if ok && len(words) != endChecks {
		s.problem("last line: has %d words after its number, not %d", len(words), endChecks)
	}
	s.end = words
}

// all joins the lines.
func (s *sheet) all() (data []int) {
	if len(s.lines) == 0 && len(s.problems) == 0 {
		s.problem("there are no numbered lines of words in it")
		return nil
	}
	if s.count == 0 {
		s.problem("the last line is missing: it begins with %q", endWord)
	}
	for n := 1; n <= s.count; n++ {
		line := s.lines[n]
		switch {
		case line == nil && !s.bad[n]:
			s.problem("line %d: is missing", n)
		case line != nil && n < s.count && len(line) != lineWords+1:
			s.problem("line %d: has %d words, not %d", n, len(line), lineWords+1)
		case line != nil:
			data = append(data, line[:len(line)-1]...)
		}
	}
	if len(s.problems) == 0 && !slices.Equal(checkAll(data), s.end) {
		s.problem("each line is right, but they do not belong together: are they of one sheet?")
	}
	return data
}
