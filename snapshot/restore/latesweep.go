package restore

import "snapfs/snapshot"

// sweepLater puts off what Delete is to remove in a directory that was there before. Only the scan calls it.
func (r *run) sweepLater(f *folder) error {
	if r.passage == nil {
		return nil // nothing comes that could end the doubt
	}
	r.passage.unswept.add(f.source.Position)
	_, err := r.passage.late(f) // what is removed changes its time
	return err
}

// sweepLate goes through the directories that were there before once more, and removes what Delete is to remove, now that it is certain that this
// is the wanted snapshot.
func (p *passage) sweepLate() {
	p.doubt = false
	d := p.dest
	top := &level{folder: d.top, dir: d.dir, chosen: p.chooser.include == nil, ignore: p.ignoresAbove()}
	if d.only != nil || d.top.state != present || d.top.made {
		return
	}
	p.sweep(top)
	for stack := []*level{top}; len(stack) > 0 && p.ctx.Err() == nil; {
		l := stack[len(stack)-1]
		found, ok := p.next(l)
		switch {
		case !ok:
			stack = stack[:len(stack)-1]
			p.leaveSwept(l.folder)
		case found.Type == snapshot.TypeDir && p.unswept.has(found.Position):
			if below := p.sweepDir(l, found); below != nil {
				stack = append(stack, below)
			}
		}
	}
}

// sweepDir is visitDir for what is only to be swept.
func (p *passage) sweepDir(l *level, found snapshot.Found) *level {
	chosen := true
	if !p.chooser.all() {
		chosen, _ = p.chooser.choose(l.folder.below(found.Name), true, l.chosen)
	}
	f := &folder{parent: l.folder, name: found.Name, source: found, chosen: chosen, fd: -1, late: notLate}
	if p.look(f); f.state != present {
		return nil
	}
	below := &level{folder: f, dir: found, chosen: chosen, ignore: l.ignore}
	p.sweep(below)
	return below
}

// leaveSwept gives a directory back the mode and flags that it was met with; its attributes follow.
func (p *passage) leaveSwept(f *folder) {
	if f.parent == nil {
		return
	}
	if f.altered {
		if err := p.asMet(f); err != nil {
			p.fail("set attributes of", p.path(f, ""), err)
		}
	}
	p.folders.close(f)
}

func (p *passage) asMet(f *folder) error {
	fd, err := p.folders.acquire(f)
	if err != nil {
		return err
	}
	defer p.folders.release(f)
	return handle{fd: fd}.asMet(f)
}
