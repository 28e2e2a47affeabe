package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkOpenClose is what a command that only reads pays for the store.
func BenchmarkOpenClose(b *testing.B) {
	dir := newStore(b)
	st := openStore(b, dir)
	putAll(b, st, "d", "one", blobs(1, 1000, 200<<10))
	closeStore(b, st)
	for b.Loop() {
		closeStore(b, openStore(b, dir))
	}
}

// BenchmarkCommit is what a backup that changes nothing pays for the store.
func BenchmarkCommit(b *testing.B) {
	dir := newStore(b)
	n := uint64(0)
	for b.Loop() {
		n++
		st := openStore(b, dir)
		putAll(b, st, "d", "one", blobs(n, 1000))
		closeStore(b, st)
	}
}

// BenchmarkPut stores chunks that do not compress.
func BenchmarkPut(b *testing.B) {
	for _, size := range []int{4 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			st := openStore(b, newStore(b))
			defer closeStore(b, st)
			w := st.NewWriter()
			rng := rand.NewChaCha8([32]byte{1})
			data := make([]byte, size)
			_, _ = rng.Read(data)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				data[0], data[1], data[2], data[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
				if _, err := w.Put(b.Context(), KindChunk, data); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkBlobID names blobs: keyed BLAKE3.
func BenchmarkBlobID(b *testing.B) {
	st := openStore(b, newStore(b))
	defer closeStore(b, st)
	for _, size := range []int{1 << 10, 16 << 10, 512 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				st.BlobID(KindChunk, data)
			}
		})
	}
}

// BenchmarkHave looks up absent and present blobs in the index.
func BenchmarkHave(b *testing.B) {
	dir := newStore(b)
	st := openStore(b, dir)
	sizes := make([]int, 20000)
	for i := range sizes {
		sizes[i] = 32
	}
	ids, _ := putAll(b, st, "d", "one", blobs(1, sizes...))
	closeStore(b, st)
	st = openStore(b, dir)
	defer closeStore(b, st)
	absent := make([]ID, len(ids))
	for i, id := range ids {
		id[0] ^= 1
		absent[i] = id
	}
	for name, list := range map[string][]ID{"present": ids, "absent": absent} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i = (i + 64) % (len(list) - 64)
				if _, err := st.session.Have(b.Context(), list[i:i+64]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(64*b.N), "ns/id")
		})
	}
}

// BenchmarkGet reads small blobs in the order they were stored.
func BenchmarkGet(b *testing.B) {
	dir := newStore(b)
	st := openStore(b, dir)
	sizes := make([]int, 5000)
	for i := range sizes {
		sizes[i] = 8 << 10
	}
	ids, _ := putAll(b, st, "d", "one", blobs(1, sizes...))
	closeStore(b, st)
	st = openStore(b, dir)
	defer closeStore(b, st)
	b.SetBytes(8 << 10)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := st.Get(b.Context(), KindChunk, ids[i%len(ids)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
