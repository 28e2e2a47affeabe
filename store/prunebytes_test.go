package store

import (
	"os"
	"testing"

	"snapfs/store/volume"
)

// filesSize sums the files of volumes with blobs.
func filesSize(t *testing.T, dir string) (size int64) {
	t.Helper()
	for id := range must1(onDisk(volumesDir(dir))) {
		info, err := os.Stat(volumePath(dir, id))
		must(t, err)
		if label, err := labelOf(volumePath(dir, id), info.Size()); err != nil || label.Kind != volume.Journal {
			must(t, err)
			size += info.Size()
		}
	}
	return size
}

// pruneForeseen makes a dry run and a prune, and compares both with the files.
func pruneForeseen(t *testing.T, dir string, st *Store, o PruneOptions) (foreseen, done PruneResult) {
	t.Helper()
	dry := o
	dry.DryRun = true
	foreseen = mustPrune(t, st, dry)
	before := filesSize(t, dir)
	done = mustPrune(t, st, o)
	if diff := before - filesSize(t, dir); done.BytesFreed != diff {
		t.Errorf("%d bytes were freed, the files say %d", done.BytesFreed, diff)
	}
	return foreseen, done
}

// TestPruneForeseesBytes: exactly what dropped volumes give, and at least what rewritten ones do.
func TestPruneForeseesBytes(t *testing.T) {
	for what, share := range map[string]bool{"drops": false, "rewrites": true} {
		t.Run(what, func(t *testing.T) {
			dir := newStore(t)
			st := openTrees(t, dir)
			a, b := manyFiles(1, 40, 50_000), manyFiles(2, 40, 50_000)
			a.files = append(a.files, blobs(3, 10, 700, 9000)...) // some packed with others
			one := a.mustWrite(t, st)
			if !share {
				closeStore(t, st)
				st = openTrees(t, dir)
			}
			two := b.mustWrite(t, st)
			forgetAll(t, st, one)
			closeStore(t, st)
			st = openTrees(t, dir)
			defer func() { closeStore(t, st) }()
			foreseen, done := pruneForeseen(t, dir, st, PruneOptions{MaxWaste: DefaultMaxWaste})
			if share {
				if len(done.Rewritten) == 0 || foreseen.BytesFreed < done.BytesFreed || done.BytesFreed < 1_900_000 {
					t.Errorf("foreseen %+v, done %+v", foreseen, done)
				}
			} else if len(done.Removed) != 2 || len(done.Rewritten) > 0 || foreseen.BytesFreed != done.BytesFreed {
				t.Errorf("foreseen %+v, done %+v", foreseen, done)
			}
			b.check(t, st, two)
		})
	}
}

// wastefulStore has volumes of 600 KB of which different shares are waste.
func wastefulStore(t *testing.T) (dir string, st *Store, kept tree, snap Snapshot) {
	t.Helper()
	dir = newStore(t)
	st = openTrees(t, dir)
	engineOf(st).limit = 600 << 10
	all := manyFiles(1, 120, 50_000)
	one := all.mustWrite(t, st)
	kept = tree{name: "kept"}
	for i, f := range all.files {
		if i%12 >= i/12 { // ten volumes of twelve files, of which 0, 1, 2 ... are waste
			kept.files = append(kept.files, f)
		}
	}
	snap = kept.mustWrite(t, st)
	forgetAll(t, st, one)
	closeStore(t, st)
	st = openTrees(t, dir)
	engineOf(st).limit = 600 << 10
	return dir, st, kept, snap
}

// TestPruneLeavesTheDefault: with the default there is at most 5 % to be had after it, and something, as the rest is not worth a rewrite.
func TestPruneLeavesTheDefault(t *testing.T) {
	dir, st, kept, snap := wastefulStore(t)
	defer func() { closeStore(t, st) }()
	all := mustPrune(t, st, PruneOptions{DryRun: true})
	_, done := pruneForeseen(t, dir, st, PruneOptions{MaxWaste: DefaultMaxWaste})
	if n := len(done.Rewritten); n == 0 || n >= len(all.Rewritten) {
		t.Errorf("%d volumes were rewritten, %d have waste", n, len(all.Rewritten))
	}
	if done.Waste <= 0 || done.Waste > done.Bytes/20 {
		t.Errorf("%d of %d bytes are left as waste", done.Waste, done.Bytes)
	}
	size := filesSize(t, dir)
	_, rest := pruneForeseen(t, dir, st, PruneOptions{})
	t.Logf("%d of %d bytes were left, about %d it said", rest.BytesFreed, size, done.Waste)
	if rest.BytesFreed <= 0 || rest.BytesFreed > size/20 {
		t.Errorf("%d of %d bytes were left to be freed", rest.BytesFreed, size)
	}
	kept.check(t, st, snap)
}

// TestPruneMaxRewrite: no more than that is rewritten in one go, the most wasteful volumes first; the next ones go on until nothing is left.
func TestPruneMaxRewrite(t *testing.T) {
	dir, st, kept, snap := wastefulStore(t)
	defer func() { closeStore(t, st) }()
	all := mustPrune(t, st, PruneOptions{DryRun: true})
	const most = 2 << 20
	rounds := 0
	for ; rounds <= len(all.Rewritten); rounds++ {
		_, done := pruneForeseen(t, dir, st, PruneOptions{MaxRewrite: most})
		if len(done.Rewritten) == 0 {
			break
		}
		var size int64
		for _, v := range done.Rewritten {
			size += v.Size
		}
		if size > most || rounds == 0 && done.BytesFreed < size/2 {
			t.Errorf("%d bytes were rewritten and gave %d, at most %d are allowed", size, done.BytesFreed, most)
		}
	}
	if rounds < 2 || rounds > len(all.Rewritten) {
		t.Errorf("%d rounds for %d volumes", rounds, len(all.Rewritten))
	}
	if left := mustPrune(t, st, PruneOptions{DryRun: true}); len(left.Rewritten)+len(left.Removed) > 0 {
		t.Errorf("left: %+v", left)
	}
	kept.check(t, st, snap)
}
