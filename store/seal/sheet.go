package seal

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// A sheet is an exported text as words that a person can type in again. On disk (paper); append only: see the package's
// comment.
const (
	wordBits    = 11
	lineWords   = 7 // of data in a line; one more checks it
	sheetMagic  = "snapfs 1 key sheet"
	endWord     = "end"
	endChecks   = 3    // words after "end"
	mostLines   = 9999 // 68 KiB: dozens of slots
	mostShown   = 10   // problems told at once
	suggestions = 3
)

// Sheet gives an exported text as numbered lines of words, each with a word that checks it, and a last line that checks all.
func Sheet(exported []byte) (string, error) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(exported); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	data := toWords(packed.Bytes())
	lines := (len(data) + lineWords - 1) / lineWords
	if lines > mostLines {
		return "", fmt.Errorf("the keys need %d lines: too many slots for paper", lines)
	}
	var b strings.Builder
	list := newWordList()
	for n := 1; n <= lines; n++ {
		line := data[(n-1)*lineWords : min(n*lineWords, len(data))]
		fmt.Fprintf(&b, "%4d  ", n)
		list.write(&b, append(line[:len(line):len(line)], checkWord(n, line)))
	}
	fmt.Fprintf(&b, "%4s  %d ", endWord, lines)
	list.write(&b, checkAll(data))
	return b.String(), nil
}

func (l *wordList) write(b *strings.Builder, numbers []int) {
	for i, n := range numbers {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(l.words[n])
	}
	b.WriteByte('\n')
}

// toWords cuts bytes into numbers of 11 bits, the highest bits first, zeros at the end.
func toWords(data []byte) (words []int) {
	acc, bits := 0, 0
	for _, c := range data {
		acc, bits = acc<<8|int(c), bits+8
		if bits >= wordBits {
			bits -= wordBits
			words = append(words, acc>>bits)
			acc &= 1<<bits - 1
		}
	}
	if bits > 0 {
		words = append(words, acc<<(wordBits-bits))
	}
	return words
}

// fromWords is the inverse, with up to a byte of zeros more.
func fromWords(words []int) (data []byte) {
	acc, bits := 0, 0
	for _, w := range words {
		acc, bits = acc<<wordBits|w, bits+wordBits
		for bits >= 8 {
			bits -= 8
			data = append(data, byte(acc>>bits))
			acc &= 1<<bits - 1
		}
	}
	return data
}

// checkWord is 11 bits of SHA-256 over the number of a line and its words: a line in another's place is noticed as well.
func checkWord(n int, line []int) int { return hashWords(n, line)[0] }

// checkAll is 33 bits over all words.
func checkAll(data []int) []int { return hashWords(0, data)[:endChecks] }

func hashWords(n int, words []int) []int {
	b := binary.BigEndian.AppendUint16([]byte(sheetMagic), uint16(n))
	for _, w := range words {
		b = binary.BigEndian.AppendUint16(b, uint16(w))
	}
	sum := sha256.Sum256(b)
	return toWords(sum[:])
}
