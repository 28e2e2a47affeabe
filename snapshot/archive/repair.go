package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapfs/store/volume"
)

// ErrPipe: what needs to read here and there cannot be done with a pipe.
var ErrPipe = errors.New("repair needs files or devices, which can be read more than once")

// RepairOptions say where repaired volumes go.
type RepairOptions struct {
	To      string // directory, made if it is missing; nothing in it is overwritten
	Done    func(Repaired)
	Working func(name string)
}

// Repaired is what became of a volume.
type Repaired struct {
	Volume string // where it was found, or how its label names it
	ID     volume.ID
	Path   string // of what was written; "": nothing
	Action string // whole, healed, partly, recomputed, lost
	Healed int64  // bytes restored
	Lost   int64  // bytes that could not be
	Err    error  // of lost: why
}

// What Repair does with volumes.
const (
	RepairWhole      = "whole"      // nothing to do
	RepairHealed     = "healed"     // its parity restored all
	RepairPartly     = "partly"     // not all
	RepairRecomputed = "recomputed" // made anew from the set's parity volumes
	RepairLost       = "lost"       // missing, and cannot be made anew
)

// RepairResult counts them.
type RepairResult struct {
	Whole, Healed, Partly, Recomputed, Lost int
}

// Repair writes to a directory what was damaged, healed, and what is missing, made anew from the parity volumes of the set if enough of
// them were given. What is written are the exact former bytes, or, of partly healed volumes, as many as possible. It needs no key.
func Repair(ctx context.Context, args []string, o RepairOptions) (*RepairResult, error) {
	inputs, err := openInputs(args, nil)
	defer func() { closeInputs(inputs) }()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.To, 0o777); err != nil {
		return nil, err
	}
	r := &repairer{o: o, result: &RepairResult{}}
	defer func() {
		for _, v := range r.volumes {
			_ = v.close() // scratch
		}
	}()
	for _, in := range inputs {
		if in.pipe != nil {
			return nil, fmt.Errorf("%s: %w", in.name, ErrPipe)
		}
		if err := r.input(ctx, in); err != nil {
			return r.result, err
		}
	}
	if err := r.groups(ctx); err != nil {
		return r.result, err
	}
	return r.result, r.finish()
}

// repairer is one Repair.
type repairer struct {
	o       RepairOptions
	result  *RepairResult
	volumes []*Volume
	broken  map[volume.ID]bool // damaged beyond their own parity, and not yet made anew
	made    []string           // paths of those made anew
}

// input checks the volumes in a file and heals those that are damaged.
func (r *repairer) input(ctx context.Context, in *input) error {
	list, err := findVolumes(in, r.o.To)
	if errors.Is(err, ErrNoVolume) {
		return r.done(Repaired{Volume: in.name, Action: RepairLost, Err: err})
	}
	if err != nil {
		return err
	}
	r.volumes = append(r.volumes, list...)
	for _, v := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.o.Working != nil {
			r.o.Working(v.Name)
		}
		if v.healed == nil {
			report, err := volume.Check(v.found, v.length, volume.CheckOptions{Volume: v.ID})
			if err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
			if report.Whole() && report.Sealed {
				if err := r.done(Repaired{Volume: v.String(), ID: v.ID, Action: RepairWhole}); err != nil {
					return err
				}
				continue
			}
		}
		if err := v.heal(r.o.To); err != nil {
			return err
		}
		if err := r.healed(v); err != nil {
			return err
		}
	}
	return nil
}

// healed writes a volume that parity healed. One that is not whole waits: it may be made anew from the others of its set.
func (r *repairer) healed(v *Volume) error {
	if v.healed == nil || !v.report.Copy.Whole() || !v.report.Copy.Sealed {
		if r.broken == nil {
			r.broken = map[volume.ID]bool{}
		}
		r.broken[v.ID] = true
		return nil
	}
	return r.write(v, RepairHealed)
}

// write copies a healed volume.
func (r *repairer) write(v *Volume, action string) error {
	d := Repaired{Volume: v.String(), ID: v.ID, Action: action}
	for _, h := range v.report.Healed {
		d.Healed += h.Length
	}
	for _, l := range v.report.Lost {
		d.Lost += l.Length
	}
	name := filepath.Base(v.Name)
	if v.base > 0 { // not the first in its file
		name = fmt.Sprintf("%s-%d", name, v.base)
	}
	out, err := newRepairFile(r.o.To, name)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.NewOffsetWriter(out.f, 0), io.NewSectionReader(v.source, 0, v.Size)); err != nil {
		return errors.Join(err, out.abandon())
	}
	d.Path = out.path
	if err := out.complete(); err != nil {
		return err
	}
	return r.done(d)
}

// groups makes lost volumes anew.
func (r *repairer) groups(ctx context.Context) error {
	sets := map[[16]byte][]*Volume{}
	for _, v := range r.volumes {
		if v.Label != nil && v.Label.Set != nil {
			sets[v.Label.Set.ID] = append(sets[v.Label.Set.ID], v)
		}
	}
	for _, list := range sets {
		for _, g := range groupsOf(list) {
			if err := r.group(ctx, g, list); err != nil {
				return err
			}
		}
	}
	return nil
}

// group makes the lost volumes of one group anew.
func (r *repairer) group(ctx context.Context, g *lostGroup, list []*Volume) error {
	if !r.needed(g) {
		return nil
	}
	if err := g.gather(ctx, list); err != nil {
		return err
	}
	lost := g.lost()
	made := map[uint32]*repairFile{}
	bad, failed := g.recompute(ctx, func(c Covered) (io.WriterAt, error) {
		f, err := newRepairFile(r.o.To, r.freeName(list, c))
		if err != nil {
			return nil, err
		}
		made[c.Number] = f
		return f.f, nil
	})
	for _, c := range lost {
		d := Repaired{Volume: memberName(list, c), ID: c.ID, Action: RepairRecomputed, Healed: c.Length}
		f := made[c.Number]
		if failed != nil {
			d.Action, d.Healed, d.Lost, d.Err = RepairLost, 0, c.Length, failed
			if f != nil {
				if err := f.abandon(); err != nil {
					return err
				}
			}
			if r.broken[c.ID] || errors.Is(failed, context.Canceled) {
				continue // what its own parity restored is kept
			}
		} else {
			d.Path = f.path
			if err := f.complete(); err != nil {
				return err
			}
			delete(r.broken, c.ID)
			r.made = append(r.made, f.path)
		}
		if err := r.done(d); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failed != nil && !errors.Is(failed, ErrTooManyLost) && !errors.Is(failed, ErrParity) {
		return failed
	}
	if bad != nil {
		return r.done(Repaired{Volume: bad.String(), ID: bad.ID, Action: RepairLost, Lost: bad.Size, Err: ErrParity})
	}
	return nil
}

// freeName is the file name of a volume that is made anew; another one if a parity volume that says otherwise made one of that number.
func (r *repairer) freeName(list []*Volume, c Covered) string {
	name := memberName(list, c)
	if slices.Contains(r.made, filepath.Join(r.o.To, name)) {
		name = fmt.Sprintf("%s-%s%s", strings.TrimSuffix(name, volumeSuffix), c.ID, volumeSuffix)
	}
	return name
}

// needed reports whether a member of the group is missing or damaged.
func (r *repairer) needed(g *lostGroup) bool {
	for _, c := range g.what.Covered {
		here := false
		for _, v := range r.volumes {
			here = here || v.ID == c.ID
		}
		if !here || r.broken[c.ID] {
			return true
		}
	}
	return false
}

// memberName is the file name of a volume that is made anew.
func memberName(list []*Volume, c Covered) string {
	name := "volume"
	for _, v := range list {
		if v.Label != nil && v.Label.Set != nil && v.Label.Set.Name != "" {
			name = strings.Map(func(r rune) rune {
				if r == '/' || r < ' ' {
					return '_'
				}
				return r
			}, v.Label.Set.Name)
			break
		}
	}
	return fmt.Sprintf("%s-%04d%s", name, c.Number, volumeSuffix)
}

// finish writes what is healed in part.
func (r *repairer) finish() error {
	for _, v := range r.volumes {
		if !r.broken[v.ID] {
			continue
		}
		if v.healed == nil {
			if err := r.done(Repaired{Volume: v.String(), ID: v.ID, Action: RepairLost}); err != nil {
				return err
			}
			continue
		}
		if err := r.write(v, RepairPartly); err != nil {
			return err
		}
	}
	return nil
}

// done counts and reports.
func (r *repairer) done(d Repaired) error {
	switch d.Action {
	case RepairWhole:
		r.result.Whole++
	case RepairHealed:
		r.result.Healed++
	case RepairPartly:
		r.result.Partly++
	case RepairRecomputed:
		r.result.Recomputed++
	case RepairLost:
		r.result.Lost++
	}
	if r.o.Done != nil {
		r.o.Done(d)
	}
	return nil
}

// repairFile is a volume that is being written: under its name only when it is complete.
type repairFile struct {
	f    *os.File
	path string
}

func newRepairFile(dir, name string) (*repairFile, error) {
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	f, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &repairFile{f, path}, nil
}

// complete gives the file its name once it is on the disk.
func (f *repairFile) complete() error {
	if err := errors.Join(f.f.Sync(), f.f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.path+".partial", f.path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(f.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *repairFile) abandon() error { return errors.Join(f.f.Close(), os.Remove(f.path+".partial")) }
