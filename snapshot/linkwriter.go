package snapshot

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"snapfs/store"
)

// Budgets of a LinkWriter.
const (
	linkNamesBudget   = 1 << 18 // distinct inodes counted in memory, about 40 bytes each
	linkRecordsBudget = 8 << 20 // bytes of records in memory
)

// LinkWriter collects the records of linked files, in any order, and encodes the link tree.
// What outgrows its budget is sorted and spilled to a temporary file without a name; memory stays at some 30 MiB
// however many files are linked (and 1.4 bytes for each spilled inode). Safe for concurrent use.
type LinkWriter struct {
	pageKey       [32]byte
	namesBudget   int
	recordsBudget int

	mu      sync.Mutex
	spill   spillFile
	names   map[linkKey]uint32 // counts since the last spill
	counted []spillRun
	records recordBuffer // since the last spill
	runs    []spillRun
	err     error // of a spill: the writer is of no use any more
}

// NewLinkWriter returns a writer that spills into dir ("" for the system's).
func NewLinkWriter(pageKey [32]byte, dir string) *LinkWriter {
	return &LinkWriter{
		pageKey:       pageKey,
		namesBudget:   linkNamesBudget,
		recordsBudget: linkRecordsBudget,
		spill:         spillFile{dir: dir},
		names:         make(map[linkKey]uint32),
	}
}

// Name counts one more name of (fs, inode) and reports whether it is the first: then the caller must Set its record.
// Errors of the temporary file are returned by Set and Finish.
func (w *LinkWriter) Name(fs uint32, inode uint64) (first bool) {
	k := linkKey{fs, inode}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n, ok := w.names[k]; ok {
		w.names[k] = n + 1
		return n&^countsAnew == 0
	}
	before, err := w.spill.contains(w.counted, k)
	w.fail(err)
	w.count(k, 1)
	return !before
}

// Has reports whether there is a name of (fs, inode) already.
func (w *LinkWriter) Has(fs uint32, inode uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := linkKey{fs, inode}
	if n, ok := w.names[k]; ok {
		return n&^countsAnew > 0
	}
	before, err := w.spill.contains(w.counted, k)
	w.fail(err)
	return before
}

// Drop forgets (fs, inode), whose record cannot be given after all: the names counted so far are gone, and a later
// one is the first again.
func (w *LinkWriter) Drop(fs uint32, inode uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(linkKey{fs, inode}, countsAnew)
}

// countsAnew marks a count that replaces those spilled before instead of adding to them.
const countsAnew = 1 << 31

func (w *LinkWriter) count(k linkKey, n uint32) {
	w.names[k] = n
	if len(w.names) >= w.namesBudget && w.err == nil {
		w.fail(w.spillNames())
	}
}

// Set gives the record of (fs, inode); e.Name is ignored, e.FS and e.Inode are the key. Of several the last counts.
func (w *LinkWriter) Set(e *Entry) error {
	if e.Linked || e.Type == TypeDir {
		return fmt.Errorf("%w: inode %d is no record for a link tree", ErrEntry, e.Inode)
	}
	if err := e.check(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records.add(linkKey{e.FS, e.Inode}, e)
	if w.records.size() >= w.recordsBudget && w.err == nil {
		w.fail(w.spillRecords())
	}
	return w.err
}

func (w *LinkWriter) fail(err error) {
	if w.err == nil && err != nil {
		w.err = fmt.Errorf("collecting hard links: %w", err)
	}
}

func (w *LinkWriter) spillNames() error {
	run, err := w.spill.write(w.countedInMemory(), addCounts, len(w.names))
	if err != nil {
		return err
	}
	clear(w.names)
	w.counted = append(w.counted, run)
	if len(w.counted) < maxCountRuns {
		return nil
	}
	// Every new inode is looked for in every run: keep them few.
	rows := 0
	for _, run := range w.counted {
		rows += run.rows
	}
	run, err = w.spill.write(w.spill.readers(w.counted), addCounts, rows)
	w.counted = []spillRun{run}
	return err
}

func (w *LinkWriter) spillRecords() error {
	run, err := w.spill.write([]spillReader{w.records.sorted()}, keepLast, 0)
	if err != nil {
		return err
	}
	w.records.reset()
	w.runs = append(w.runs, run)
	return nil
}

// countedInMemory is the counts since the last spill, in order.
func (w *LinkWriter) countedInMemory() []spillReader {
	list := make([]spilled, 0, len(w.names))
	for k, n := range w.names {
		list = append(list, spilled{key: k, n: n})
	}
	slices.SortFunc(list, func(a, b spilled) int { return a.key.compare(b.key) })
	return []spillReader{&listReader{list: list}}
}

// Finish writes the tree; it returns its root (zero if there are no records), the number of records, and the sum of
// size x names over them. Records without Set are an error. The writer stays as it is: more names may follow
// and Finish be called again, as for a backup's partial snapshots.
func (w *LinkWriter) Finish(ctx context.Context, sink Sink) (root store.ID, records, bytes uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return root, 0, 0, w.err
	}
	p := pager{sink: sink, kind: pageLinks, pageKey: w.pageKey}
	if err := w.merge(ctx, &p); err != nil {
		return root, 0, 0, fmt.Errorf("writing the link tree: %w", err)
	}
	root, sum, err := p.finish(ctx)
	if err != nil {
		return store.ID{}, 0, 0, fmt.Errorf("writing the link tree: %w", err)
	}
	return root, sum.Entries, sum.Bytes, nil
}

// merge goes through counts and records side by side.
func (w *LinkWriter) merge(ctx context.Context, p *pager) error {
	names, err := newMerger(append(w.spill.readers(w.counted), w.countedInMemory()...), addCounts)
	if err != nil {
		return err
	}
	records, err := newMerger(append(w.spill.readers(w.runs), w.records.sorted()), keepLast)
	if err != nil {
		return err
	}
	record, got, err := records.next()
	if err != nil {
		return err
	}
	for {
		name, more, err := names.next()
		if err != nil {
			return err
		}
		same := more && got && name.key == record.key
		n := name.n &^ countsAnew
		switch {
		case !more && !got:
			return nil
		case more && n == 0 && !same: // dropped, and no record left
			continue
		case !got || more && name.key.compare(record.key) < 0:
			return fmt.Errorf("%w: inode %d of file system %d has names and no record", ErrEntry, name.key.inode, name.key.fs)
		case !same:
			return fmt.Errorf("%w: inode %d of file system %d has a record and no names", ErrEntry, record.key.inode, record.key.fs)
		}
		if n > 0 {
			if err := putRecord(ctx, p, n, record.data); err != nil {
				return err
			}
		}
		if record, got, err = records.next(); err != nil {
			return err
		}
	}
}

// putRecord moves a record from its form on the way into the tree.
func putRecord(ctx context.Context, p *pager, names uint32, data []byte) error {
	var e Entry
	d := entryDecoder{at: inSpill}
	if err := d.decode(data, &e); err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	e.Nlink = names
	k := key{fs: e.FS, inode: e.Inode}
	if err := p.room(ctx, 0, k); err != nil {
		return err
	}
	p.recBuf = appendEntry(p.recBuf[:0], &e, inLinkTree, 0, &p.owners)
	p.add(0, k, p.recBuf, recordSums(&e))
	return nil
}

// Close removes the temporary file.
func (w *LinkWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(errSpillClosed)
	return w.spill.close()
}

func addCounts(older, newer spilled) spilled {
	if newer.n&countsAnew != 0 {
		return newer
	}
	n := min(older.n&^countsAnew+newer.n, countsAnew-1)
	newer.n = older.n&countsAnew | n
	return newer
}

func keepLast(_, newer spilled) spilled { return newer }
