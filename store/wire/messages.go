package wire

import "time"

// Method names a call. The values travel on the wire; append only.
type Method uint16

// Methods, each with its request, events and response.
const (
	MethodHello   Method = 1  // Hello -> Welcome: the first call of a connection
	MethodHave    Method = 2  // IDs -> Flags
	MethodPut     Method = 3  // Put -> Number: bytes the volume grew by
	MethodLocate  Method = 4  // IDs -> Places
	MethodRead    Method = 5  // Read -> the bytes themselves
	MethodCommit  Method = 6  // Commit -> Committed
	MethodAppend  Method = 7  // Facts -> Empty
	MethodState   Method = 8  // Number: since -> StatePart events, Flags: one that is false when nothing is newer
	MethodWait    Method = 9  // Number: since -> Empty
	MethodLock    Method = 10 // Lock -> Empty
	MethodUnlock  Method = 11 // Lock -> Empty
	MethodPin     Method = 12 // IDs -> Empty
	MethodRebuild Method = 13 // Empty -> Progress events, Empty
	MethodStats   Method = 14 // Empty -> Stats
	MethodBye     Method = 15 // Empty -> Empty: the session ends, its pins and locks are gone
	MethodUnpin   Method = 16 // IDs -> Empty
	MethodVerify  Method = 17 // VerifyOptions -> VerifyEvent events, VerifySummary
	MethodPrune   Method = 18 // Prune -> PruneProgress events, PruneResult
	MethodUpkeep  Method = 19 // Empty -> PruneResult
	MethodAdmin   Method = 20 // Empty -> SignPart events, until cancelled: the session has admin rights meanwhile
	MethodDamaged Method = 21 // Damaged -> IDs events if Ask, Empty
	MethodVolumes Method = 22 // Empty -> Volumes
	MethodSign    Method = 23 // Signature -> Empty: answers what MethodAdmin asked for
	MethodGoOn    Method = 24 // Empty -> Empty: fails the session unless it is known from the holder before
)

// Hello begins a session, or goes on with one after its holder ended.
type Hello struct {
	Session [16]byte // random, the same after every takeover
	Job     string   // what the client does, for people
	Program string   // version of the client
}

func (m *Hello) code(c *coder) {
	c.array16(&m.Session)
	c.string(&m.Job)
	c.string(&m.Program)
}

// Welcome answers Hello.
type Welcome struct {
	Program string // version of the holder
	Bundle  []byte // the unlocked keys without admin keys
}

func (m *Welcome) code(c *coder) {
	c.string(&m.Program)
	c.bytes(&m.Bundle)
}

// Empty says nothing.
type Empty struct{}

func (*Empty) code(*coder) {}

// Number is one number.
type Number struct{ Value uint64 }

func (m *Number) code(c *coder) { c.u64(&m.Value) }

// IDs lists blobs or snapshots.
type IDs struct{ IDs [][32]byte }

func (m *IDs) code(c *coder) { c.ids(&m.IDs) }

// Flags answers a question about each of several things.
type Flags struct{ Flags []bool }

func (m *Flags) code(c *coder) { list(c, &m.Flags, 1, c.bool) }

// Put carries a packed frame; the pack says which blobs are in it.
type Put struct {
	Class uint8
	Pack  []byte
}

func (m *Put) code(c *coder) {
	c.u8(&m.Class)
	c.rest(&m.Pack)
}

// Places answers where blobs lie.
type Places struct{ Places []Place }

// Place is where a blob lies; all zero when that is not known.
type Place struct {
	Volume [16]byte
	Offset int64
	Stored uint32
	Start  uint32
	Length uint32
}

func (m *Places) code(c *coder) {
	list(c, &m.Places, 36, func(p *Place) {
		c.array16(&p.Volume)
		c.i64(&p.Offset)
		c.u32(&p.Stored)
		c.u32(&p.Start)
		c.u32(&p.Length)
	})
}

// Read asks for stored bytes of a volume.
type Read struct {
	Volume [16]byte
	Offset int64
	Length uint32
}

func (m *Read) code(c *coder) {
	c.array16(&m.Volume)
	c.i64(&m.Offset)
	c.u32(&m.Length)
}

// Commit asks for a snapshot to become real.
type Commit struct {
	Dataset  string
	Snapshot [32]byte
	Name     string
	Start    time.Time
	Tags     []string
	Summary  []byte
	Partial  bool
}

func (m *Commit) code(c *coder) {
	c.string(&m.Dataset)
	c.array32(&m.Snapshot)
	c.string(&m.Name)
	c.time(&m.Start)
	c.strings(&m.Tags)
	c.bytes(&m.Summary)
	c.bool(&m.Partial)
}

// Committed answers Commit.
type Committed struct {
	Snapshot Snapshot
	Head     [32]byte // the newest fact then
}

func (m *Committed) code(c *coder) {
	m.Snapshot.code(c)
	c.array32(&m.Head)
}

// SignPart asks for the signature under a message, which is what the parts with the same ticket have, in order. Ticket 0
// asks for nothing: the session has admin rights from then on.
type SignPart struct {
	Ticket uint64
	More   bool // another part follows
	Data   []byte
}

func (m *SignPart) code(c *coder) {
	c.u64(&m.Ticket)
	c.bool(&m.More)
	c.rest(&m.Data)
}

// Signature answers a SignPart.
type Signature struct {
	Ticket    uint64
	Refused   bool // there is none
	Signature []byte
}

func (m *Signature) code(c *coder) {
	c.u64(&m.Ticket)
	c.bool(&m.Refused)
	c.rest(&m.Signature)
}

// Facts carries bodies of facts, each encoded as its kind has it.
type Facts struct{ Facts []Fact }

// Fact is the body of a fact.
type Fact struct {
	Kind uint8
	Body []byte
}

func (m *Facts) code(c *coder) {
	list(c, &m.Facts, 5, func(f *Fact) {
		c.u8(&f.Kind)
		c.bytes(&f.Body)
	})
}

// Lock names a lock. Resume: the session had it already when its holder ended.
type Lock struct {
	Name   string
	Job    string
	Wait   bool
	Resume bool
}

func (m *Lock) code(c *coder) {
	c.string(&m.Name)
	c.string(&m.Job)
	c.bool(&m.Wait)
	c.bool(&m.Resume)
}

// Damaged reports damaged frames, or asks which blobs are known to be damaged.
type Damaged struct {
	Ask    bool
	Frames []DamagedFrame
}

// DamagedFrame is a frame that did not give the blob it should hold; without volume, the blob was found nowhere.
type DamagedFrame struct {
	Volume [16]byte
	Offset int64
	Blob   [32]byte
}

func (m *Damaged) code(c *coder) {
	c.bool(&m.Ask)
	list(c, &m.Frames, 56, func(f *DamagedFrame) {
		c.array16(&f.Volume)
		c.i64(&f.Offset)
		c.array32(&f.Blob)
	})
}

// Progress tells how far a rebuild is.
type Progress struct {
	Volumes, VolumesTotal int
	Blobs, Bytes          int64
}

func (m *Progress) code(c *coder) {
	c.int(&m.Volumes)
	c.int(&m.VolumesTotal)
	c.i64(&m.Blobs)
	c.i64(&m.Bytes)
}

// Stats describes a store's size.
type Stats struct {
	Volumes, Snapshots, Datasets, KeySlots                 int
	Bytes, DataBytes, MetaBytes, JournalBytes, ParityBytes int64
	IndexBytes, Blobs, RawBytes                            int64
	Encrypted                                              bool
	StoreID                                                string
	Created                                                time.Time
}

func (m *Stats) code(c *coder) {
	for _, v := range []*int{&m.Volumes, &m.Snapshots, &m.Datasets, &m.KeySlots} {
		c.int(v)
	}
	for _, v := range []*int64{
		&m.Bytes, &m.DataBytes, &m.MetaBytes, &m.JournalBytes, &m.ParityBytes, &m.IndexBytes, &m.Blobs, &m.RawBytes,
	} {
		c.i64(v)
	}
	c.bool(&m.Encrypted)
	c.string(&m.StoreID)
	c.time(&m.Created)
}
