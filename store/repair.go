package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapfs/store/volume"
)

// repairPrefix begins the name of a healed copy until it is put in the place of its volume.
const repairPrefix = ".repair-"

func repairPath(dir string, id volume.ID) string {
	return filepath.Join(volumesDir(dir), repairPrefix+id.String())
}

// repair mends the volumes that have findings from their own parity. What cannot be mended stays as it is.
func (v *verifier) repair(ctx context.Context) error {
	v.hurtByFacts()
	stray, err := v.strays()
	if err != nil {
		return err
	}
	v.nameStray(stray)
	if !v.o.Repair {
		return nil
	}
	if err := v.progress(func(p *VerifyProgress) { p.Phase = "repair" }); err != nil {
		return err
	}
	if err := v.hurtJournals(ctx); err != nil {
		return err
	}
	again, err := v.repairVolumes(ctx, stray)
	if err != nil {
		return err
	}
	kept, safe, err := v.keepFacts(ctx)
	if err == nil && !again {
		again, err = v.e.lacksFacts(ctx) // of journals that came back when a repair was killed, for instance
	}
	if err == nil && safe && (again || kept) {
		err = v.e.rebuild(nil) // facts that were lost count again, in their order
	}
	if err == nil {
		err = v.renewJournals(ctx)
	}
	if err == nil && v.e.anyGuards() {
		v.e.tryGuards(ctx, v.e.guardHeld)
	}
	return err
}

// repairVolumes mends one after the other and reports whether the index must be made anew: a journal or a lost volume was among
// them.
func (v *verifier) repairVolumes(ctx context.Context, stray *strays) (again bool, err error) {
	v.e.maintenance.Lock()
	defer v.e.maintenance.Unlock()
	if again, err = v.bringBack(ctx, stray); err != nil {
		return again, err
	}
	for _, id := range v.hurt {
		if err := ctx.Err(); err != nil {
			return again, err
		}
		kind, err := v.repairVolume(ctx, id)
		if errors.Is(err, errNotBetter) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if ctx.Err() != nil {
			return again, ctx.Err()
		}
		if err != nil {
			v.notRepaired(id, err)
			v.postponed = true
			continue
		}
		again = again || kind == volume.Journal
	}
	return again, nil
}

// notRepaired says why findings remain: a full disk, for instance. The others are mended all the same.
func (v *verifier) notRepaired(id volume.ID, err error) {
	for i := range v.findings {
		if f := &v.findings[i]; f.Volume == id {
			f.Text += fmt.Sprintf("; not repaired: %v", err)
		}
	}
}

// hurtByFacts adds the volumes that are shorter than facts say, in the order of all.
func (v *verifier) hurtByFacts() {
	for _, f := range v.findings {
		if f.Problem == ProblemShort {
			v.hurt = append(v.hurt, f.Volume)
		}
	}
	slices.SortFunc(v.hurt, func(a, b volume.ID) int { return compareBytes(a[:], b[:]) })
	v.hurt = slices.Compact(v.hurt)
}

// errNotBetter: a healed copy would hold no more than the volume does.
var errNotBetter = errors.New("parity does not help")

// repairVolume writes a healed copy, verifies it, puts it in place, and looks which findings remain. It leaves alone what is being
// written. Needs maintenance.
func (v *verifier) repairVolume(ctx context.Context, id volume.ID) (volume.Kind, error) {
	e := v.e
	e.mu.Lock()
	state := e.volumes.byID[id]
	usable := state != nil && !state.missing && !state.dropped && state.writer == nil
	e.mu.Unlock()
	if !usable {
		return 0, errNotBetter
	}
	unfolded := e.unfoldedJournal(state)
	if err := e.healFile(id); errors.Is(err, errNotBetter) {
		return 0, v.settleRepaired(ctx, id, byParity) // somebody else may have mended it meanwhile
	} else if err != nil {
		return 0, err
	}
	v.unfolded = v.unfolded || unfolded
	if err := e.replaced(state); err != nil {
		return 0, err
	}
	return state.kind, v.settleRepaired(ctx, id, byParity)
}

// healFile exchanges a volume's file for a healed copy. Readers with the old one open read on there until they meet damage.
func (e *engine) healFile(id volume.ID) (err error) {
	path, tmp := volumePath(e.dir, id), repairPath(e.dir, id)
	src, err := e.files.Open(path)
	if err != nil {
		return err
	}
	defer src.Close()
	size, err := fileSize(path)
	if err != nil {
		return err
	}
	if err := e.spaceFor(size); err != nil {
		return err
	}
	if err := e.removeTemp(tmp); err != nil {
		return err
	}
	dst, err := e.files.Create(tmp, false)
	if err != nil {
		return diskFull(err)
	}
	defer func() {
		err = errors.Join(err, dst.Close())
		if err != nil {
			err = errors.Join(diskFull(err), e.removeTemp(tmp))
		}
	}()
	report, err := volume.Repair(src, size, dst, volume.RepairOptions{Volume: id})
	if err != nil {
		return err
	}
	if err := e.better(id, src, size, dst, report.Size); err != nil {
		return err
	}
	return e.exchange(id, tmp)
}

// exchange puts a copy in the place of a volume, which keeps the flag that guards it.
func (e *engine) exchange(id volume.ID, tmp string) error {
	guarded, err := e.unguard(id)
	if err != nil {
		return err
	}
	err = e.files.Rename(tmp, volumePath(e.dir, id))
	if err == nil {
		err = e.files.SyncDir(volumesDir(e.dir))
	}
	if guarded {
		err = errors.Join(err, e.guard(id))
	}
	return err
}

func fileSize(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (e *engine) removeTemp(path string) error {
	if err := e.files.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// spaceFor refuses to begin a copy of so many bytes on a disk that would be nearly full with it.
func (e *engine) spaceFor(size int64) error { return e.atLeast(e.reserve.volumes() + size) }

// frameID is what stays of a frame wherever its bytes lie.
type frameID struct {
	sequence uint32
	sum      uint64
}

// wholeFrames reads a volume and lists the frames whose sums are right. damage counts all that is not right.
func wholeFrames(r volume.File, size int64, id volume.ID) (frames map[frameID]bool, damage int, err error) {
	frames = map[frameID]bool{}
	report, err := volume.Check(r, size, volume.CheckOptions{
		Volume: id,
		Frame: func(_ int64, h volume.Header, _ []byte, damage error) error {
			if damage == nil {
				frames[frameID{h.Sequence, h.PayloadSum}] = true
			}
			return nil
		},
	})
	return frames, len(report.Damage), err
}

// better reads a healed copy back and makes sure that it holds every whole frame of the volume, and more. errNotBetter otherwise.
func (e *engine) better(id volume.ID, src volume.File, size int64, dst volume.File, healed int64) error {
	before, damage, err := wholeFrames(src, size, id)
	if err != nil {
		return err
	}
	after, left, err := wholeFrames(dst, healed, id)
	if err != nil {
		return err
	}
	for f := range before {
		if !after[f] {
			return errNotBetter
		}
	}
	if len(after) == len(before) && left >= damage {
		return errNotBetter
	}
	return nil
}

// replaced reads a volume whose file has been exchanged into the index.
func (e *engine) replaced(state *volumeState) error {
	size, err := fileSize(volumePath(e.dir, state.id))
	if err != nil {
		return err
	}
	e.flushMu.Lock()
	defer e.flushMu.Unlock()
	e.forgetDamage(func(k frameKey) bool { return k.volume == state.id })
	e.mu.Lock()
	e.coarsenPins() // what was damaged is counted among the blobs again
	fresh := *state
	e.mu.Unlock()
	fresh.size, fresh.indexed, fresh.blobs, fresh.raw, fresh.sealed = size, 0, 0, 0, false
	e.indexMu.RLock()
	if err = e.giveNumbers(); err == nil {
		err = e.indexVolume(e.idx, &fresh, &found{})
	}
	e.indexMu.RUnlock()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.coarsenPins() // of what sessions were told meanwhile
	state.size, state.seen, state.indexed, state.sealed = fresh.size, fresh.seen, fresh.indexed, fresh.sealed
	state.blobs, state.raw, state.kind = fresh.blobs, fresh.raw, fresh.kind
	state.parity, state.harmed = fresh.parity, fresh.harmed
	e.filter, e.asked = nil, 0 // it lacks what has come back
	return nil
}

// byParity says how findings were healed.
const byParity = "; restored from parity"

// settleRepaired checks a repaired volume: findings that are gone are healed, as healed says.
func (v *verifier) settleRepaired(ctx context.Context, id volume.ID, healed string) error {
	c, err := v.checkOne(ctx, id, true)
	if err != nil {
		return err
	}
	v.e.recordDamage(c.damage)
	v.mu.Lock()
	v.matched[id] = c.matched
	left := c.findings
	v.left = slices.DeleteFunc(v.left, func(l volume.ID) bool { return l == id })
	if len(left) > 0 && !c.foreign() {
		v.left = append(v.left, id)
	}
	for i := range v.findings {
		f := &v.findings[i]
		if f.Volume != id {
			continue
		}
		at := slices.IndexFunc(left, func(g Finding) bool { return g.Problem == f.Problem && g.Offset == f.Offset })
		if at >= 0 {
			left = slices.Delete(left, at, at+1)
			continue
		}
		f.Healed = f.Problem != ProblemShort || c.state.size >= c.need
		if f.Healed {
			f.Text += healed
		}
	}
	v.mu.Unlock()
	for _, f := range left {
		v.add(f)
	}
	if c.state.sealed {
		v.e.noteVerified(id, c.begun)
	}
	return nil
}

// dropTemps removes the copies that a repair which was killed has left.
func (e *engine) dropTemps() error {
	entries, err := os.ReadDir(volumesDir(e.dir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), repairPrefix) {
			err = cmp.Or(err, e.removeTemp(filepath.Join(volumesDir(e.dir), entry.Name())))
		}
	}
	return err
}
