
¸
	old.prototest.old" 
Old
must (Rmust
may (:7Rmay
text (	Rtext)
inner (
2.test.old.Old.InnerRinner
unpacked (Runpacked
Inner
x (Rx