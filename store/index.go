package store

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/sys/unix"

	"snapfs/store/seal"
	"snapfs/store/volume"
)

// Key prefixes of the index. The index may be thrown away at any time, so they may change with indexVersion.
const (
	keyBlob     = 'b' // + blob ID            -> place
	keyVolume   = 'v' // + volume ID          -> volumeRecord
	keySnapshot = 's' // + slot, big-endian   -> snapshot record of the fold
	keyDataset  = 'd' // + number, big-endian -> dataset record of the fold
	keyRecord   = 'r' // + kind, ID           -> other records of the fold
	keySession  = 'p' // + session ...        -> what sessions pin: see sessions.go
	keyMeta     = 'm' // + name               -> chain state and the like
	keyVerified = 'w' // + volume ID          -> when it was last verified
	keyDamage   = 'x' // + volume ID, offset  -> IDs of the blobs in a damaged frame; with the zero ID: + a blob in no volume
)

// indexVersion changes when the layout above does: then the index is rebuilt.
const indexVersion = 3

// index is Badger with sealed values. Safe for concurrent use.
type index struct {
	db     *badger.DB
	aead   cipher.AEAD
	synced func() // if not nil: called after each sync

	syncFile func(path string) error // a log of Badger; tests look on

	logs    sync.Mutex
	settled map[string]bool // logs of full memory tables that are on stable storage

	numbers sync.Mutex
	given   uint32 // short numbers below it are known as given, on stable storage
}

// errIndexBroken: the index cannot be used and must be rebuilt.
var errIndexBroken = errors.New("index is damaged")

// openIndex opens the index in dir, or one in memory if dir is empty.
func openIndex(dir string, b *seal.Bundle, memtable int64, log *slog.Logger) (*index, error) {
	aead, err := b.IndexAEAD()
	if err != nil {
		return nil, err
	}
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	db, err := openBadger(indexOptions(dir, memtable, log))
	if err != nil && outOf(err) {
		return nil, fmt.Errorf("index: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIndexBroken, err)
	}
	return &index{db: db, aead: aead, syncFile: syncFile, settled: map[string]bool{}}, nil
}

// outOf reports whether an error of Badger, which hands on nothing but the text, is about what the process or the machine has too little of: no
// reason to make the index anew.
func outOf(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM}, func(errno unix.Errno) bool {
		return strings.Contains(err.Error(), errno.Error())
	})
}

// openBadger turns a panic of Badger on damaged files into an error.
func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, fmt.Errorf("badger: %v", p)
		}
	}()
	return badger.Open(o)
}

// indexOptions are Badger's settings as measured (see doc.go).
func indexOptions(dir string, memtable int64, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithInMemory(dir == "").
		WithCompression(0).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithNumCompactors(2).
		WithMemTableSize(memtable).
		WithNumMemtables(2).
		WithCompactL0OnClose(true).
		WithMetricsEnabled(false).
		WithValueLogFileSize(16 << 20).
		WithValueThreshold(min(1<<20, memtable/16)).
		WithSyncWrites(false).
		WithLogger(badgerLog{log})
}

// badgerLog hands Badger's messages on, warnings and errors only.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) line(level func(string, ...any), format string, args []any) {
	level("index: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}
func (l badgerLog) Errorf(format string, args ...any)   { l.line(l.log.Warn, format, args) }
func (l badgerLog) Warningf(format string, args ...any) { l.line(l.log.Debug, format, args) }
func (l badgerLog) Infof(string, ...any)                {}
func (l badgerLog) Debugf(string, ...any)               {}

func (x *index) close() error { return x.db.Close() }

// tablesApart is how many small tables there may be.
const tablesApart = 16

// gather has Badger merge the small tables of sessions. Each process that only looks into a snapshot leaves one, with the removals of its session's
// records, and Badger merges tables only where their keys overlap: hundreds would take as many descriptors. Two more removals, at
// both ends, make the table that is written on closing overlap all of them.
func (x *index) gather() error {
	if x.smallTables() < tablesApart {
		return nil
	}
	return x.deleteAll([][]byte{{keySession}, append([]byte{keySession}, bytes.Repeat([]byte{0xff}, 64)...)})
}

// smallTables counts the tables that hold little and nothing but records of sessions.
func (x *index) smallTables() (small int) {
	for _, t := range x.db.Tables() {
		if t.OnDiskSize < 4096 && t.Left[0] == keySession && t.Right[0] == keySession {
			small++
		}
	}
	return small
}

// seal encrypts a value; the key is authenticated with it, so that values cannot be exchanged.
func (x *index) seal(key, value []byte) ([]byte, error) {
	out := make([]byte, 12, 12+len(value)+16)
	if _, err := rand.Read(out); err != nil {
		return nil, err
	}
	return x.aead.Seal(out, out[:12], value, key), nil
}

func (x *index) open(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 12+16 {
		return nil, fmt.Errorf("%w: short value", errIndexBroken)
	}
	value, err := x.aead.Open(nil, sealed[:12], sealed[12:], key)
	if err != nil {
		return nil, fmt.Errorf("%w: value of key %x: %w", errIndexBroken, key, err)
	}
	return value, nil
}

// get returns a value, nil if there is none.
func (x *index) get(key []byte) ([]byte, error) {
	var value []byte
	err := x.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			value, err = x.open(key, v)
			return err
		})
	})
	return value, err
}

// each calls fn for every key with the prefix, in order.
func (x *index) each(prefix []byte, fn func(key, value []byte) error) error {
	return x.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = prefix
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			err := it.Item().Value(func(v []byte) error {
				value, err := x.open(key, v)
				if err != nil {
					return err
				}
				return fn(key, value)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// eachBlobID calls fn for every blob's ID, without reading values.
func (x *index) eachBlobID(fn func(ID)) error {
	return x.db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.Prefix = []byte{keyBlob}
		o.PrefetchValues = false
		it := txn.NewIterator(o)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if key := it.Item().Key(); len(key) == 1+len(ID{}) {
				fn(ID(key[1:]))
			}
		}
		return nil
	})
}

// write applies a small set of changes in one transaction.
func (x *index) write(fn func(set func(key, value []byte) error, del func(key []byte) error) error) error {
	err := x.db.Update(func(txn *badger.Txn) error {
		set := func(key, value []byte) error {
			sealed, err := x.seal(key, value)
			if err != nil {
				return err
			}
			return txn.Set(key, sealed)
		}
		return fn(set, func(key []byte) error { return txn.Delete(key) })
	})
	if err != nil {
		return err
	}
	return x.settle()
}

// setAll writes keys with their values, as many at a time as a transaction takes.
func (x *index) setAll(records [][2][]byte) error {
	for part := range slices.Chunk(records, foldTxnLimit) {
		err := x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
			for _, r := range part {
				if err := set(r[0], r[1]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// deleteAll removes keys, as many at a time as a transaction takes. Pairs stay together.
func (x *index) deleteAll(keys [][]byte) error {
	for part := range slices.Chunk(keys, foldTxnLimit) {
		err := x.write(func(_ func(key, value []byte) error, del func([]byte) error) error {
			for _, key := range part {
				if err := del(key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// batch writes many keys, not atomically.
type batch struct {
	x *index
	w *badger.WriteBatch
}

func (x *index) newBatch() *batch { return &batch{x, x.db.NewWriteBatch()} }

func (b *batch) set(key, value []byte) error {
	sealed, err := b.x.seal(key, value)
	if err != nil {
		return err
	}
	return b.w.Set(key, sealed)
}

// finish writes what is left and makes all of it durable.
func (b *batch) finish() error {
	if err := b.w.Flush(); err != nil {
		return err
	}
	return b.x.sync()
}

func (b *batch) cancel() { b.w.Cancel() }

func (x *index) sync() error {
	if x.inMemory() {
		return nil
	}
	err := errors.Join(x.db.Sync(), x.settle())
	if err == nil && x.synced != nil {
		x.synced()
	}
	return err
}

// settle brings the logs of memory tables that are full, and not yet in tables, to stable storage. Badger syncs only that of the present
// one: the power could take what came before and leave what came after, a watermark without places or a fold without one of its facts.
func (x *index) settle() error {
	if x.inMemory() {
		return nil
	}
	x.logs.Lock()
	defer x.logs.Unlock()
	dir := x.db.Opts().Dir
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var logs []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".mem" {
			logs = append(logs, e.Name())
		}
	}
	slices.SortFunc(logs, func(a, b string) int { return cmp.Or(len(a)-len(b), cmp.Compare(a, b)) })
	full := map[string]bool{}
	for _, log := range logs[:max(0, len(logs)-1)] {
		if !x.settled[log] {
			if err := x.syncFile(filepath.Join(dir, log)); err != nil && !errors.Is(err, fs.ErrNotExist) { // else it is in a table by now
				return err
			}
		}
		full[log] = true
	}
	x.settled = full
	return nil
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// give notes durably that short numbers below next are given. That comes before the index leads to a volume: places in it may outlive its
// record when the power goes, and would be places in whatever got its number then.
func (x *index) give(next uint32) error {
	x.numbers.Lock()
	defer x.numbers.Unlock()
	if next <= x.given || x.inMemory() {
		return nil
	}
	err := x.write(func(set func(key, value []byte) error, _ func([]byte) error) error {
		return set(nextVolumeKey, encodeUvarint(uint64(next)))
	})
	if err == nil {
		err = x.sync()
	}
	if err == nil {
		x.given = next
	}
	return err
}

// blobKey is the key of a blob's place.
func blobKey(id ID) []byte { return append([]byte{keyBlob}, id[:]...) }

func volumeKey(id volume.ID) []byte { return append([]byte{keyVolume}, id[:]...) }

func numberKey(prefix byte, n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{prefix}, n)
}

func metaKey(name string) []byte { return append([]byte{keyMeta}, name...) }

// shortPlace is a Place with the volume's short number, as the index keeps it.
type shortPlace struct {
	volume uint32
	offset int64
	stored uint32
	start  uint32
	length uint32

	ordinal uint32 // number of the blob in its volume: its bit when what is wanted is marked
}

func (p shortPlace) encode() []byte {
	b := make([]byte, 0, 28)
	b = binary.AppendUvarint(b, uint64(p.volume))
	b = binary.AppendUvarint(b, uint64(p.offset))
	b = binary.AppendUvarint(b, uint64(p.stored))
	b = binary.AppendUvarint(b, uint64(p.start))
	b = binary.AppendUvarint(b, uint64(p.length))
	return binary.AppendUvarint(b, uint64(p.ordinal))
}

func parseShortPlace(b []byte) (p shortPlace, err error) {
	var v [6]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 {
			return p, fmt.Errorf("%w: place", errIndexBroken)
		}
		b = b[n:]
	}
	return shortPlace{uint32(v[0]), int64(v[1]), uint32(v[2]), uint32(v[3]), uint32(v[4]), uint32(v[5])}, nil
}

// compareBytes is bytes.Compare under the name Place.Compare reads well with.
func compareBytes(a, b []byte) int { return bytes.Compare(a, b) }

func (x *index) inMemory() bool { return x.db.Opts().InMemory }
