package restore

import (
	"context"
	"fmt"
)

const (
	notLate    = ^uint32(0)
	topNumber  = 0
	dirsAtOnce = 1024 // folders of which more than a number is kept in memory
)

// begin gives the destination directory its number.
func (p *passage) begin() error {
	top := p.dest.top
	if _, err := p.later.add(make([]byte, folderRecord)); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	top.late = topNumber
	return nil
}

// late gives a folder, and those above it, numbers: they are finished when everything has come. Those above have smaller numbers.
func (p *passage) late(f *folder) (uint32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var chain []*folder
	for g := f; g.late == notLate; g = g.parent {
		chain = append(chain, g)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		g := chain[i]
		number, err := p.later.add(identityOf(g).encode())
		if err != nil {
			return 0, fmt.Errorf("scratch: %w", err)
		}
		g.late = number
	}
	return f.late, nil
}

// leave notes what a folder is like when the scan and all that did not have to wait are done with it.
func (p *passage) leave(f *folder) error {
	if f.late == topNumber {
		return nil
	}
	if err := p.later.write(f.late, lateFolderOf(f).encode()); err != nil {
		return fmt.Errorf("scratch: %w", err)
	}
	return nil
}

// folder makes the folder with a number again. Those in memory are few; what is dropped is made again.
func (p *passage) folder(ctx context.Context, number uint32) (*folder, error) {
	if number == topNumber {
		return p.dest.top, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.dirs[number]; f != nil {
		return f, nil
	}
	var b [folderRecord]byte
	if err := p.later.read(number, b[:]); err != nil {
		return nil, fmt.Errorf("scratch: %w", err)
	}
	l := parseLateFolder(b[:])
	path, err := p.tree.PathAt(ctx, l.position)
	if err != nil {
		return nil, err
	}
	f := p.dest.top
	for _, name := range splitPath(path)[len(splitPath(p.dest.path)):] {
		f = &folder{parent: f, name: name, fd: -1, late: notLate} // of those on the way only the names matter
	}
	l.fill(f)
	f.late = number
	if f.parent != p.dest.top {
		f.parent.hands = l.bits&folderUnderHands != 0
	}
	if len(p.dirs) >= dirsAtOnce {
		clear(p.dirs)
	}
	p.dirs[number] = f
	return f, nil
}

// finishFolders sets the attributes of folders that had to wait, those below first.
func (p *passage) finishFolders() error {
	for number := p.later.n - 1; number != topNumber; number-- {
		if err := p.cause(); err != nil {
			return err
		}
		f, err := p.folder(p.ctx, number)
		if err == nil {
			f.source, err = p.tree.At(p.ctx, parsePosition(p.later, number))
		}
		if err != nil {
			if err := p.lostFolder(number, err); err != nil {
				return err
			}
			continue
		}
		f.late = notLate
		p.finishNow(f)
		p.folders.close(f)
		p.mu.Lock()
		delete(p.dirs, number)
		p.mu.Unlock()
	}
	p.dest.top.late = notLate
	p.finishNow(p.dest.top)
	return p.cause()
}

func parsePosition(l *records, number uint32) uint32 {
	var b [folderRecord]byte
	_ = l.read(number, b[:]) // it was read a moment ago
	return parseLateFolder(b[:]).position
}

func (p *passage) lostFolder(number uint32, err error) error {
	return p.lostJob(parsePosition(p.later, number), err)
}
