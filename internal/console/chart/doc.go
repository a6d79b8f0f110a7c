// Package chart draws the console's pictures: SVG as text, made on the server, of numbers that it is handed.
//
// Each picture is a struct of data with one method, Draw, that is a pure function of it:
//
//	Curve      counts over time, as an area below a line: certificates issued per minute
//	Histogram  a bar for each of some classes: identities by the time that they have left
//	Parts      one bar cut into parts that add up to a whole: identities by status
//	Bar        how much of something is there, or left, with a mark: the time that a certificate has left
//	Hierarchy  boxes and lines from above to below: certificate authorities
//	Timeline   spans below each other on one axis of time: the certificates of an identity
//	Table      not a picture: the same numbers for who wants to read them, below it
//
// A picture is as wide as what it is in, and its text stays as large as the page's however narrow that is: positions are
// percentages, and only lines are stretched. Colours are those of classes (tone-ok, tone-due, tone-warn, tone-bad, or
// none for the accent), defined in the console's stylesheet for both themes; nothing has a style attribute, which the
// content security policy would not apply. Who cannot see a picture is read its title and description. Times are UTC.
//
// Texts come from the caller, in the reader's language, and are escaped here. The package knows nothing of the product.
package chart
