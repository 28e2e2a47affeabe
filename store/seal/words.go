package seal

import (
	_ "embed"
	"slices"
	"strings"
)

// english is the word list of BIP-39 (M. Palatinus, P. Rusnak, A. Voisine, S. Bowe, 2013; published under the MIT licence
// with https://github.com/bitcoin/bips): 2,048 common words, sorted, none of which begins with the same four letters as another. As published:
// its CRC-32 is c1dbd296.
//
//go:embed english.txt
var english string

// wordList is the list, and the place of each word and of its first four letters.
type wordList struct {
	words []string
	place map[string]int
}

func newWordList() *wordList {
	l := &wordList{words: strings.Fields(english), place: map[string]int{}}
	for i, w := range l.words {
		l.place[w], l.place[w[:min(len(w), 4)]] = i, i
	}
	return l
}

// find gives the number of a word; its first four letters are enough.
func (l *wordList) find(word string) (int, bool) {
	word = strings.ToLower(word)
	if i, ok := l.place[word]; ok {
		return i, true
	}
	return 0, false
}

// nearest gives the words most like one that is not in the list, best first.
func (l *wordList) nearest(word string, most int) []string {
	return l.within(strings.ToLower(word), max(2, len(word)/2), most)
}

// within gives the words at most so many edits away from word, other than it, best first.
func (l *wordList) within(word string, edits, most int) []string {
	type rated struct {
		word string
		cost int
	}
	var list []rated
	for _, w := range l.words {
		if w == word || len(w)-len(word) > edits || len(word)-len(w) > edits {
			continue
		}
		if cost := EditDistance(word, w); cost <= edits {
			list = append(list, rated{w, cost})
		}
	}
	slices.SortStableFunc(list, func(a, b rated) int { return a.cost - b.cost })
	var words []string
	for _, r := range list[:min(len(list), most)] {
		words = append(words, r.word)
	}
	return words
}

// EditDistance is the number of insertions, deletions, replacements and swaps of neighbouring bytes that make b of a.
func EditDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
