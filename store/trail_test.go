package store

import "testing"

func TestTrail(t *testing.T) {
	const mib = 1 << 20
	var tr trail
	dropped := int64(0)
	for at := int64(0); at < 64; at += 2 { // two readers, one ahead of the other
		for _, offset := range []int64{at + 1, at} {
			from, to := tr.passed(offset*mib, mib)
			if to < from || to > offset*mib+mib || from != dropped && to > from {
				t.Fatalf("at %d MiB: %d to %d, dropped up to %d", offset, from, to, dropped)
			}
			dropped = max(dropped, to)
		}
	}
	if dropped < 48*mib {
		t.Errorf("only %d MiB dropped", dropped/mib)
	}
	for i := range int64(100) { // here and there
		if from, to := tr.passed(i*37%100*40*mib, mib); to > from {
			t.Errorf("random reads dropped %d to %d", from, to)
		}
	}
}
