package store

import "testing"

func TestCutHash(t *testing.T) {
	h := NewCutHash([32]byte{1})
	a := h.Sum([]byte("name"))
	if h.Sum([]byte("other")) == a || h.Sum([]byte("name")) != a {
		t.Error("not a function of the name")
	}
	if NewCutHash([32]byte{2}).Sum([]byte("name")) == a {
		t.Error("the key makes no difference")
	}
	const want = 0x92a6d8574528c77
	if got := NewCutHash([32]byte{}).Sum([]byte("snapfs")); got != want {
		t.Errorf("hash changed: %#x", got)
	}
}

func BenchmarkCutHash(b *testing.B) {
	h := NewCutHash([32]byte{1})
	name := []byte("libexample.so.1.2.3")
	b.ReportAllocs()
	for b.Loop() {
		h.Sum(name)
	}
}
