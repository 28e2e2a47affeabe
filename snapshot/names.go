package snapshot

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxDatasetName is the longest name of a dataset, in bytes.
const maxDatasetName = 100

// minIDPrefix is how many digits of a snapshot's ID must be given at least.
const minIDPrefix = 8

// Latest is the word for the newest snapshot, in references and in the mount.
const Latest = "latest"

// nameLayout is the form of snapshot names without the number that follows when two begin in one second.
const nameLayout = "2006-01-02_15-04-05"

// NameError is a dataset name that breaks the rules. It is an ErrSyntax.
type NameError struct {
	Name   string
	Reason string
}

func (e *NameError) Error() string { return fmt.Sprintf("dataset name %q: %s", e.Name, e.Reason) }

// Is makes errors.Is(err, ErrSyntax) true.
func (e *NameError) Is(target error) bool { return target == ErrSyntax }

// DatasetName checks a dataset name against the rules: letters, digits, dot, underscore and minus, at most 100, the
// first a letter or digit; neither "latest" nor what could be a snapshot's ID. Errors: *NameError.
func DatasetName(s string) error {
	switch {
	case s == "":
		return &NameError{s, "is empty"}
	case len(s) > maxDatasetName:
		return &NameError{s, fmt.Sprintf("is longer than %d bytes", maxDatasetName)}
	case !isAlnum(s[0]):
		return &NameError{s, "does not begin with a letter or digit"}
	case s == Latest:
		return &NameError{s, "means the newest of all snapshots"}
	case isIDPrefix(s):
		return &NameError{s, "could be a snapshot ID"}
	}
	for i := range len(s) {
		if !isDatasetByte(s[i]) {
			return &NameError{s, "has other characters than A-Z a-z 0-9 . _ -"}
		}
	}
	return nil
}

// DefaultDataset makes a dataset name from an absolute path: without its leading slash, "/" as "-", bytes that are not
// allowed as "_"; "root" for "/". The result need not be valid (it may be too long, or begin with a dot): check it
// with DatasetName and ask for a name if it is not.
func DefaultDataset(path string) string {
	path = strings.Trim(path, "/")
	if path == "" {
		return "root"
	}
	name := []byte(path)
	for i, c := range name {
		switch {
		case c == '/':
			name[i] = '-'
		case !isDatasetByte(c):
			name[i] = '_'
		}
	}
	return string(name)
}

// SnapshotName is the directory name for a start time, in its zone: 2026-11-22_03-15-07, with -2, -3 ... if taken has it.
func SnapshotName(start time.Time, taken func(string) bool) string {
	return FreeName(start.Format(nameLayout), taken)
}

// FreeName is a snapshot's name, or, if taken has it, the same with another number.
func FreeName(name string, taken func(string) bool) string {
	base := name
	if IsSnapshotName(name) {
		base = name[:len(nameLayout)]
	}
	for n := 2; taken(name); n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	return name
}

// IsSnapshotName reports whether s has the form of a snapshot's name.
func IsSnapshotName(s string) bool {
	if len(s) < len(nameLayout) {
		return false
	}
	base, number := s[:len(nameLayout)], s[len(nameLayout):]
	if _, err := time.Parse(nameLayout, base); err != nil {
		return false
	}
	if number == "" {
		return true
	}
	n, err := strconv.Atoi(number[1:])
	return err == nil && number[0] == '-' && n >= 2 && strconv.Itoa(n) == number[1:]
}

// isIDPrefix reports whether s is 8 to 64 lower-case hexadecimal digits.
func isIDPrefix(s string) bool {
	if len(s) < minIDPrefix || len(s) > 64 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}

func isDatasetByte(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == '-' }

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
