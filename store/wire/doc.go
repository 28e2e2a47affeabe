/*
Package wire carries the store's interface over a byte stream: messages, calls and flow control.

It knows nothing of stores: the types of its messages are its own, and package store translates. Any stream will do
that keeps bytes in order: a unix socket, the standard input and output of an ssh session.

# Greeting

Both sides first send 16 bytes, all numbers being little-endian:

	"snapfs-w"  major(2)  minor(2)  zero(4)

Another major version is refused with ErrVersion, which names both. A higher minor version may have more methods.

# Frames

After the greeting the stream is a sequence of frames:

	type(1)  zero(1)  method(2)  call(4)  length(4)  payload(length)

	type      from    payload
	request   client  the request of method; call is a number the client is not using at the moment
	event     server  an event of the call
	response  server  the response; the call is over
	failure   server  code(2) length(4) text, then data up to the end; the call is over
	cancel    client  none: the response is not wanted any more, but still comes
	credit    both    4 bytes: see below
	ack       client  none: an event of the call was dealt with

A payload has at most 20 MiB; larger things are sent as several events (StatePart). Whatever breaks these rules ends the
connection. Every request gets exactly one response or failure, in any order.

# Flow control

A message (request, event, response, failure) counts its payload and 1 KiB. Each side lets the other have 32 MiB of messages
under way: a request until its handler has answered, an event until the callback returned, a response until the
caller has it. Memory freed is told by credit frames, gathered up to 4 MiB. A call has at most four events that are not
acknowledged, so a slow listener holds up its own call and no other. Credits and acknowledgements
are sent by a goroutine of their own: a reader that waited for its peer to read could wait for ever.

# Messages

Fields stand one after another without tags: numbers with fixed width, a time as seconds(8) and nanoseconds(4), a list as its
length(4) and its elements. Every message has one encoding only; anything else is refused with ErrMessage.

# The end

When either side ends, every call under way returns ErrConnLost: whether it happened is not known, so callers repeat what may
be repeated. A server whose context ends lets its handlers answer first.
*/
package wire
